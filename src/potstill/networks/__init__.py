"""Networks: the ConvNet, the zoo, initialisation, linearisation."""
