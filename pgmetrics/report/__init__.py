"""One HTML page about a scored run, and its plots for papers.

`run_curves` turns a scores file into curves, `plots` draws them, `gallery` makes and finds images, `sections`
says what each section of the page holds, and `page` sets it with the templates.
"""
