"""Section 4, the report's EXTRA: ResNet-18, from scratch and from ImageNet weights."""

from caltech_exp.catalog.model import Figure, Quoted, Section, Table, single, sweep
from caltech_exp.config import RunConfig

SCRATCH = RunConfig(model="resnet18", batch_size=128, epochs=60, step_size=50)
PRETRAINED = SCRATCH.but(weights="imagenet")

SECTION = Section(
    name="resnet",
    number="4",
    title="Extra: ResNet-18",
    question="What does a deeper network reach?",
    tables=(
        Table(
            name="scratch",
            number="4.1",
            title="ResNet from scratch",
            question="Which learning rate suits ResNet-18 from scratch?",
            heading="Learning rate",
            rows=sweep(
                SCRATCH,
                "lr",
                {"1e-3": (0.442, 0.002), "1e-2": (0.564, 0.001), "5e-2": (0.616, 0.000)},
            ),
        ),
        Table(
            name="transfer",
            number="4.2",
            title="Transfer learning with ResNet",
            question="Which learning rate suits the pretrained ResNet-18?",
            heading="Learning rate",
            rows=sweep(
                PRETRAINED,
                "lr",
                {"1e-3": (0.923, 0.003), "1e-2": (0.931, 0.001), "5e-2": (0.934, 0.000)},
            ),
        ),
        Table(
            name="batch_256",
            number="4.2",
            title="A larger batch",
            question="How fast does the pretrained ResNet-18 converge with a batch of 256?",
            heading="Run",
            rows=single("256", PRETRAINED.but(lr=5e-2, batch_size=256, epochs=40, step_size=30)),
            figures=(
                Figure(
                    20,
                    "LR = 5e-2, BATCH_SIZE = 256, NUM_EPOCHS = 40, STEP_SIZE = 30",
                    "256",
                    Quoted(last_accuracy=0.93),
                ),
            ),
        ),
    ),
)
