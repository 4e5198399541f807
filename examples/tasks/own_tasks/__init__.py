"""Five kinds of task as a user writes them: one file each, with its model and its data."""
