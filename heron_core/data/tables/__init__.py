"""Rows of a table (csv, Parquet) as samples: each column by the run's own table, never by a client's own figures.

NumPy and the standard library; pyarrow only where a Parquet file is read.
"""
