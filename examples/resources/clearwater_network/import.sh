terraform import clearwater_network.core lab/core
