"""One HTML page about a scored run, and its plots for papers.

`data` turns a store into series, `plots` draws them, `gallery` makes and finds images, `page` sets
the whole.
"""
