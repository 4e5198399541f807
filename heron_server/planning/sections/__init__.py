"""The plan as a person reads it: one file for each group of sections.

Nothing here is counted or decided; figures come from the files beside this folder.
"""
