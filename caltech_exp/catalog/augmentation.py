"""Section 3, data augmentation: do random variations of the training images help?"""

from caltech_exp.catalog.model import Figure, Row, Section, Table
from caltech_exp.config import RunConfig

BASE = RunConfig(weights="imagenet", freeze="conv", lr=1e-2, epochs=40, step_size=20)

SECTION = Section(
    name="augmentation",
    number="3",
    title="Data augmentation",
    question="Do random variations of the images improve training of the fully connected layers?",
    tables=(
        Table(
            name="augment",
            number="3",
            title="Augmentations of the training images",
            question="Which random transforms help, with the convolutional layers frozen?",
            heading="Augmentation",
            rows=(
                Row("none", BASE),
                Row("crop, horizontal flip, grayscale", BASE.but(augment="crop")),
                Row("perspective, rotation, vertical flip", BASE.but(augment="perspective")),
                Row("all but the vertical flip", BASE.but(augment="combined")),
            ),
            figures=(
                Figure(16, "LR = 1e-2, BATCH_SIZE = 256, NUM_EPOCHS = 40, STEP_SIZE = 20", "none"),
                Figure(17, "RandomCrop, horizontal flip, grayscale", "crop, horizontal flip, grayscale"),
                Figure(18, "RandomPerspective, rotation, vertical flip", "perspective, rotation, vertical flip"),
                Figure(19, "all of them but RandomVerticalFlip", "all but the vertical flip"),
            ),
        ),
    ),
)
