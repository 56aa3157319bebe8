"""Results of LeNet-5 on full MNIST and Fashion-MNIST: `python -m experiments.lenet5 --help`."""
