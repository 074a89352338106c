"""The report in words: conditions, remarks, sentences, tables of text."""
