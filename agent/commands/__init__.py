"""The commands, one a file: ``add_parser`` says what it takes, and sets ``run`` to what it does."""
