"""Train one network, or with -m a sweep; conf/config.yaml explains the settings."""

from product_cls.core.interrupts import interrupt_exits

if __name__ == "__main__":
    with interrupt_exits():  # from the first imports on
        from product_cls.training.command import main

        main()
