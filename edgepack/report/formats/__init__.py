"""The report for programs: CSV, JUnit, Markdown, Parquet."""
