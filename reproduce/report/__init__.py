"""Tables 1-5 as Markdown, HTML and LaTeX: printed, measured, difference."""
