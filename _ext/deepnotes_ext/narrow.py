"""A second drawing of each figure, for a phone: the same curves on a narrow page, letters as large as before.

A figure of 6.4 inches shrinks to half on a phone, and its letters with it. So the kernel draws it once more, 3.7 inches wide:
panels that stood side by side come to stand below each other, the letters keep their size. The text of this file is the end
of the hidden first cell of every chapter (``execution.py``); it stands alone, and imports nothing of the extension.

The second drawing travels in the metadata of the figure's output (``KEY``), beside the SVG; ``figures.py`` takes it from there. A
figure that does not lay out on the narrow page (matplotlib says so by a warning), or that cannot be copied, has none and shrinks.
"""

KEY = "deepnotes_narrow"
WIDTH = 3.7  # inches: 355 px, which a phone of 390 px shows 310 px wide: letters of 9 pt are 10.5 px high there


def _columns(axes, columns):
    "Into how many columns panels are put: one for two or three with numbers along the axes, two for more; pictures stay."
    title = max(len(ax.get_title()) for ax in axes)
    panel = (1.7 if len(axes) > 3 else 2.6) if _lettered(axes) else max(0.7, 0.085 * title)
    return max(1, min(columns, int(WIDTH / panel)))


def _lettered(axes):
    "Whether any of them has numbers along an axis."
    return any(ax.axison and (len(ax.get_xticks()) or len(ax.get_yticks())) for ax in axes)


def _restack(figure):
    "Lay the panels of each grid out in fewer columns; the height that this takes, as a multiple of the grid's rows."
    from matplotlib.gridspec import GridSpec

    grids = {}
    for ax in figure.axes:
        spec = ax.get_subplotspec()
        if spec is not None:
            grids.setdefault(id(spec.get_gridspec()), (spec.get_gridspec(), []))[1].append((spec, ax))
    if len(grids) != 1:  # nested grids are drawings by hand: they keep their order
        return None
    ((grid, members),) = grids.values()
    rows, columns = grid.get_geometry()
    single = all(spec.rowspan.stop - spec.rowspan.start == 1 == spec.colspan.stop - spec.colspan.start for spec, _ in members)
    fewer = _columns([ax for _, ax in members], columns)
    if not single or fewer == columns:
        return None
    places = sorted({(spec.rowspan.start, spec.colspan.start) for spec, _ in members})
    tall = -(-len(places) // fewer)
    ratios = grid.get_height_ratios() if fewer == 1 and columns == 1 else None
    new = GridSpec(tall, fewer, figure=figure, height_ratios=ratios)
    for spec, ax in members:
        place = places.index((spec.rowspan.start, spec.colspan.start))
        ax.set_subplotspec(new[divmod(place, fewer)])
        if ax.axison:  # numbers that the left neighbor or the one below had shown for all
            ax.tick_params(labelleft=ax.yaxis.get_ticks_position() != "right", labelbottom=True)
    return tall, rows, columns, fewer


def _legends(figure):
    "Legends in as many columns as the page holds; where the figure's stand outside the panels, they stay there."
    for legend in [*figure.legends, *filter(None, (ax.get_legend() for ax in figure.axes))]:
        texts = [text.get_text() for text in legend.get_texts()]
        longest = max(map(len, texts), default=0)
        columns = max(1, min(len(texts), int(WIDTH * 11 / (longest + 6))))
        place = getattr(legend, "_outside_loc", None)
        if legend.axes is None:
            loc, anchor = f"outside {place if place in ('upper', 'lower') else 'upper'} center", {}
        elif columns >= legend._ncols:
            continue
        else:
            loc = legend._loc
            anchor = {"bbox_to_anchor": legend.get_bbox_to_anchor().transformed(legend.axes.transAxes.inverted())}
        title = legend.get_title().get_text() or None
        handles, owner = legend.legend_handles, legend.axes or figure
        legend.remove()
        owner.legend(handles, texts, loc=loc, ncols=columns, title=title, frameon=False, **anchor)


def narrow(figure):
    """The SVG of a figure on a narrow page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        It is not changed: a copy is drawn.

    Returns
    -------
    str or None
        None for a figure that is narrow already, or that finds no room there.
    """
    import io
    import pickle
    import warnings

    import matplotlib.pyplot as plt

    if not hasattr(figure, "get_size_inches"):  # a part of a figure
        return None
    width, height = figure.get_size_inches()
    if width <= WIDTH + 0.3:
        return None
    shown = plt.get_fignums()
    try:
        copy = pickle.loads(pickle.dumps(figure))  # our own bytes, made a moment ago
    except (pickle.PicklingError, AttributeError, TypeError):  # it holds a function, say one that writes an axis' numbers
        return None
    try:
        stacked = _restack(copy)
        if stacked:
            tall, rows, columns, fewer = stacked
            panel = (height / rows) / (width / columns)  # height over width, as it was
            height = tall * max(1.5 if fewer == 1 else 0.9, min(1.1, panel) * WIDTH / fewer)
        else:
            height *= max(WIDTH / width, 0.85 if _lettered(copy.axes) else 0)
        _legends(copy)
        copy.set_size_inches(WIDTH, height)
        file = io.StringIO()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            copy.savefig(file, format="svg")
        return file.getvalue()
    except UserWarning:
        return None
    finally:
        for number in set(plt.get_fignums()) - set(shown):
            plt.close(number)


def _as_metadata(figure):
    svg = narrow(figure)
    return None if svg is None else (None, {"svg": svg})


def register(shell):
    "Let the shell make the second drawing whenever it shows a figure."
    from IPython.core.formatters import BaseFormatter
    from traitlets import ObjectName, Unicode

    class Narrow(BaseFormatter):
        format_type = Unicode(KEY)
        print_method = ObjectName("_repr_narrow_svg_")
        _return_type = (str, type(None))  # no form of its own, whose kind all who read notebooks would have to know

    formatter = Narrow(parent=shell.display_formatter)
    # Figure's base: the inline backend takes all formatters of Figure itself away when it starts
    formatter.for_type_by_name("matplotlib.figure", "FigureBase", _as_metadata)
    shell.display_formatter.formatters[KEY] = formatter
