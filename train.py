"""Train one network, or with -m a sweep; conf/config.yaml explains the settings."""

from product_cls.training.command import main

if __name__ == "__main__":
    main()
