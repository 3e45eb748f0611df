"""The types that encoders, readouts and datasets share. Plugin authors import them from `zoo.api`."""
