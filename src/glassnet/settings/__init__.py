"""What a training is told: the config, its defaults by data, and what is settled once the data is read."""
