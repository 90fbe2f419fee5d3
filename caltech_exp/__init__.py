"""Reproduce a report on AlexNet and ResNet-18 on Caltech-101 as batch jobs.

The words used everywhere, in code, on the command line and in the report:

section   a chapter of the report: data, scratch, transfer, augmentation, resnet
table     one table of a section, or the single run behind a figure: scratch.lr, transfer.template
row       one configuration of a table, with the value the report printed for it, if it printed one
run       a row with a seed; its id is a hash of everything that can change its result
study     one folder of runs made with the same overrides on the same data set
profile   where and how to run: partition, account, time, GPUs, array parallelism (slurm/profiles)
engine    how a run trains; `reference` is the course template's loop to the letter

Nothing imported from here, from `config`, `catalog`, `plan`, `study` or `results` imports torch.
"""

__version__ = "0.2.0"
