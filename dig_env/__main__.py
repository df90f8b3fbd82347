"""``python -m dig_env``: the ``dig-env`` command, for torchrun and accelerate."""

from dig_env.agents.cli.main import main

if __name__ == "__main__":
    main()
