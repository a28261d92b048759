"""Write an HTML page about a scored run, and plots for papers.

`run_curves` turns a scores file into curves, `plots` draws them, `gallery` generates samples and finds real
images, `sections` prepares the content of each section of the page, and `page` renders the templates.
"""
