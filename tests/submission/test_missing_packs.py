"""Which packs a submission's runs would make, by their settings."""

from pathlib import Path

from caltech_exp.config import RunConfig
from caltech_exp.data.pack_format import split_contents
from caltech_exp.data.packs import shared_pack
from caltech_exp.data.splits import read_data_set
from caltech_exp.submission.preflight import missing_packs

CONFIG = RunConfig(max_images=4)
CENTERS = [("train", 4, "center", 256), ("val", 4, "center", 256), ("test", 4, "center", 256)]


def test_each_resize_has_packs_of_its_own_and_random_crops_whole_images(stand_in: Path, tmp_path: Path) -> None:
    data = read_data_set(stand_in)
    assert sorted(missing_packs([CONFIG], data, tmp_path)) == sorted(CENTERS)
    assert ("train", 4, "resized", 256) in missing_packs([CONFIG.but(augment="crop")], data, tmp_path)
    as_they_are = missing_packs([CONFIG, CONFIG.but(resize=0)], data, tmp_path)
    assert {item[3] for item in as_they_are} == {0, 256}
    assert len(as_they_are) == 6
    assert missing_packs([CONFIG.but(engine="reference")], data, tmp_path) == {}


def test_what_is_there_is_not_asked_for(stand_in: Path, tmp_path: Path) -> None:
    data = read_data_set(stand_in)
    for item in missing_packs([CONFIG], data, tmp_path):
        shared_pack(tmp_path, split_contents(data, *item))
    assert missing_packs([CONFIG], data, tmp_path) == {}
    assert len(missing_packs([CONFIG.but(resize=0)], data, tmp_path)) == 3
