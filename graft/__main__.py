"""The console command `graft`, also `python -m graft`."""

from importlib import import_module

from graft.core.installed import prepare_environment


def main() -> None:
    """Run the command line of `pipelines.cli`."""
    prepare_environment()
    # By name: the library does not depend on the pipelines.
    import_module("pipelines.cli").main()


if __name__ == "__main__":
    main()
