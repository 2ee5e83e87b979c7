"""The GPUs of this host: their driver, what each is, which of them a program sees."""
