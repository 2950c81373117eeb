"""One module a figure: `TITLE`, `declare(lab)`, and `measure(lab)`."""
