"""Results of LeNet-5 on full MNIST and Fashion-MNIST: `python -m agents.lenet5 --help`."""
