"""Data preparation: what is in the data set and in the two splits? No runs, three figures."""

from caltech_exp.catalog.model import DatasetFigure, Section

SPLIT_IMAGES = (5784, 2893)
"""Images of train.txt (training and validation) and test.txt without the background class."""

SECTION = Section(
    name="data",
    number="",
    title="Data preparation",
    question="What is in the data set, and are the two splits distributed alike?",
    dataset_figures=(
        DatasetFigure(1, "averages", "Composition of averages of the images of each category"),
        DatasetFigure(2, "train", "Number of images per class in training & validation split"),
        DatasetFigure(3, "test", "Number of images per class in test split"),
    ),
)
