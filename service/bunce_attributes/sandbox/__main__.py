"""`python -m bunce_attributes.sandbox`."""

from bunce_attributes.sandbox.command import sandbox

if __name__ == "__main__":
    sandbox(prog_name="python -m bunce_attributes.sandbox")
