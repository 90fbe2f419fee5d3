"""Words that look like options of `jobs/submit.py` and are written otherwise."""

from caltech_exp.arguments import VALUE
from caltech_exp.catalog.model import Catalog
from jobs.profiles import SlurmProfile
from jobs.sbatch_options import SETTINGS

OF_SBATCH = ("hold", "licenses", "mail-type", "mail-user", "nice", "reservation")
"""Options of sbatch that a profile has no setting of its own for, and people type."""
BY_ANOTHER_NAME = {"cpus": "cpus-per-task", "gpus": "gpus-per-node", "mem": "mem", "memory": "mem", "time": "time"}
"""What people call an option of sbatch -> the option."""
NO_HINT = ("cpu_jobs", "executor", "images_per_second", "sbatch")
"""Settings of a profile that are not changed as a whole."""


def hints(catalog: Catalog) -> dict[str, str]:
    """Word -> what to write: sections and tables by name, settings of a profile, options of sbatch."""
    of_sbatch = {option: setting.replace(": ", "=", 1) for option, setting in SETTINGS.items()}
    return {
        **{name.replace("-", "_"): f"profile.sbatch.{name}={VALUE}" for name in OF_SBATCH},
        **{name: f"profile.{of_sbatch[option]}" for name, option in BY_ANOTHER_NAME.items()},
        **{name: f"profile.{name}={VALUE}" for name in SlurmProfile.model_fields if name not in NO_HINT},
        **{
            f"{section.name}.{table.name}": f"table={section.name}.{table.name}"
            for section, table in catalog.tables
        },
        **{name: f"section={name}" for name in ("all", *(section.name for section in catalog.sections))},
    }
