"""How fast the service is, beside what one would pick instead: `make bench`, or `python -m benchmarks --help`."""
