"""Section 1, training from scratch: which learning rate, how many epochs, which step size?"""

from caltech_exp.catalog.model import Figure, Quoted, Section, Table, single, sweep
from caltech_exp.config import RunConfig

TEMPLATE = RunConfig()
FASTER = TEMPLATE.but(lr=5e-2)
LONGER = FASTER.but(epochs=60)

SECTION = Section(
    name="scratch",
    number="1",
    title="Training from scratch",
    question="How well can AlexNet do without pretrained weights?",
    tables=(
        Table(
            name="template",
            number="1",
            title="The template's default parameters",
            question="What does the template reach straight out of the box?",
            heading="Run",
            settings_figure=4,
            rows=single("template", TEMPLATE),
            figures=(Figure(5, "Template's default", "template", Quoted(4.62, 0.09, 4.55, 0.09)),),
        ),
        Table(
            name="lr",
            number="1.1",
            title="Changing learning rate",
            question="Which learning rate suits training from scratch?",
            heading="Learning rate",
            rows=sweep(
                TEMPLATE,
                "lr",
                {
                    "1e-3": (0.092, 0.000),
                    "1e-2": (0.298, 0.002),
                    "5e-2": (0.446, 0.016),
                    "6e-2": (0.344, 0.058),
                    "1e-1": (0.160, 0.085),
                },
            ),
            figures=(
                Figure(
                    6,
                    "LR = 5e-2, BATCH_SIZE = 256, NUM_EPOCHS = 30, STEP_SIZE = 20",
                    "5e-2",
                    Quoted(4.62, 0.09, 0.71, 0.446),
                ),
            ),
        ),
        Table(
            name="epochs",
            number="1.2",
            title="Changing epochs number",
            question="Do more epochs help at LR 5e-2?",
            heading="Number of epochs",
            rows=sweep(
                FASTER,
                "epochs",
                {
                    "20": (0.328, 0.057),
                    "30": (0.446, 0.016),
                    "40": (0.434, 0.018),
                    "50": (0.451, 0.011),
                    "60": (0.498, 0.012),
                },
            ),
            figures=(
                Figure(
                    7,
                    "LR = 5e-2, BATCH_SIZE = 256, NUM_EPOCHS = 60, STEP_SIZE = 20",
                    "60",
                    Quoted(4.62, 0.09, 0.16, 0.498),
                ),
            ),
        ),
        Table(
            name="step_size",
            number="1.3",
            title="Changing step size",
            question="When should the learning rate step down, at LR 5e-2 and 60 epochs?",
            heading="Step size",
            rows=sweep(
                LONGER,
                "step_size",
                {
                    "10": (0.321, 0.020),
                    "20": (0.498, 0.012),
                    "30": (0.476, 0.006),
                    "40": (0.476, 0.008),
                    "50": (0.504, 0.006),
                },
            ),
            figures=(
                Figure(
                    8,
                    "LR = 5e-2, BATCH_SIZE = 256, NUM_EPOCHS = 60, STEP_SIZE = 50",
                    "50",
                    Quoted(4.62, 0.09, 0.08, 0.50),
                ),
            ),
        ),
    ),
)
