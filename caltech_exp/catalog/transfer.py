"""Section 2, transfer learning: AlexNet from ImageNet weights; which settings, and what to freeze?"""

from caltech_exp.catalog.model import Figure, Quoted, Row, Section, Table, single, sweep
from caltech_exp.config import RunConfig

TEMPLATE = RunConfig(weights="imagenet")
SCRATCH_BEST = TEMPLATE.but(lr=5e-2, epochs=60, step_size=50)
BEST = TEMPLATE.but(lr=1e-2, epochs=60, step_size=30)

SECTION = Section(
    name="transfer",
    number="2",
    title="Transfer learning",
    question="What do weights learned on ImageNet bring?",
    tables=(
        Table(
            name="diverging",
            number="2.1",
            title="Pretrained, at the best settings from scratch",
            question="Do the best settings from scratch carry over to the pretrained network?",
            heading="Run",
            rows=single("LR = 5e-2", SCRATCH_BEST, diverges=True),
        ),
        Table(
            name="template",
            number="2.1",
            title="Pretrained, at the template's default parameters",
            question="What does the template reach from pretrained weights?",
            heading="Run",
            settings_figure=9,
            rows=single("template", TEMPLATE),
            figures=(
                Figure(
                    10,
                    "LR = 1e-3, BATCH_SIZE = 256, NUM_EPOCHS = 30, STEP_SIZE = 20",
                    "template",
                    Quoted(4.92, 0.29, 0.02, 0.83),
                ),
            ),
        ),
        Table(
            name="lr",
            number="2.1",
            title="Changing learning rate",
            question="Which learning rate suits the pretrained network (60 epochs, step 50)?",
            heading="Learning rate",
            rows=sweep(
                SCRATCH_BEST,
                "lr",
                {"1e-4": (0.801, 0.005), "1e-3": (0.842, 0.003), "1e-2": (0.858, 0.001)},
            ),
            figures=(Figure(11, "LR = 1e-2, BATCH_SIZE = 256, NUM_EPOCHS = 60, STEP_SIZE = 50", "1e-2"),),
        ),
        Table(
            name="step_size",
            number="2.2",
            title="Changing step size",
            question="Does the step size matter at LR 1e-2 and 60 epochs?",
            heading="Step size",
            rows=sweep(
                BEST,
                "step_size",
                {
                    "20": (0.857, 0.000),
                    "30": (0.859, 0.001),
                    "40": (0.855, 0.002),
                    "50": (0.858, 0.001),
                },
            ),
        ),
        Table(
            name="batch_64",
            number="2.3",
            title="A small batch",
            question="What does a batch of 64 need to keep up?",
            heading="Run",
            rows=single("64", TEMPLATE.but(lr=1e-3, batch_size=64, epochs=80, step_size=50)),
            figures=(Figure(12, "LR = 1e-3, BATCH_SIZE = 64, NUM_EPOCHS = 80, STEP_SIZE = 50", "64"),),
        ),
        Table(
            name="batch_1024",
            number="2.3",
            title="A large batch",
            question="What does a batch of 1024 reach?",
            heading="Run",
            rows=single("1024", TEMPLATE.but(lr=1e-2, batch_size=1024, epochs=40, step_size=30)),
            figures=(Figure(13, "LR = 1e-2, BATCH_SIZE = 1024, NUM_EPOCHS = 40, STEP_SIZE = 30", "1024"),),
        ),
        Table(
            name="batch_size",
            number="2.3",
            title="Changing batch size",
            question="Does the batch size matter at LR 1e-2, step 30 and 60 epochs?",
            heading="Batch size",
            rows=sweep(
                BEST,
                "batch_size",
                {
                    "64": (0.831, 0.001),
                    "128": (0.856, 0.002),
                    "256": (0.858, 0.001),
                    "512": (0.858, 0.003),
                    "1024": (0.858, 0.001),
                },
            ),
        ),
        Table(
            name="freezing",
            number="2.4",
            title="Freezing the network",
            question="Which layers carry over: the convolutional or the fully connected ones?",
            heading="Layers trained",
            rows=(
                Row("fully connected", BEST.but(freeze="conv")),
                Row("convolutional", BEST.but(freeze="fc")),
            ),
            figures=(
                Figure(
                    14,
                    "only the fully connected layers trained, "
                    "LR = 1e-2, BATCH_SIZE = 256, NUM_EPOCHS = 60, STEP_SIZE = 30",
                    "fully connected",
                ),
                Figure(
                    15,
                    "only the convolutional layers trained, "
                    "LR = 1e-2, BATCH_SIZE = 256, NUM_EPOCHS = 60, STEP_SIZE = 30",
                    "convolutional",
                ),
            ),
        ),
    ),
)
