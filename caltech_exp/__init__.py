"""Reproduce a report on AlexNet and ResNet-18 on Caltech-101 with batch jobs.

These words mean the same in the code, on the command line and in the report:

section   a chapter of the report: data, scratch, transfer, augmentation, resnet
table     one table of a section, or the single run behind a figure: scratch.lr, transfer.template
row       one configuration of a table, and the value that the report printed for it, if any
run       a row with a seed; its id is a hash of everything that can change its numbers
study     a folder of runs that have the same overrides and the same data set
profile   where and how to run: partition, account, time limit, GPUs, tasks at once (slurm/profiles)
engine    how a run trains: `fast`, or `reference`, the course template's own training loop
"""

__version__ = "0.2.0"
