"""Folders of images: which files count, what class each is, and how one becomes numbers. Needs Pillow."""
