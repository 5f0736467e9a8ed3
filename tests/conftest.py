"""One thread for every test and every process that a test starts.

The models here are tiny: a second thread gains nothing, and on a machine with other work the threads of torch
wait for each other so long that the suite takes ten times as long.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and inherited by child processes

import torch

torch.set_num_threads(1)
