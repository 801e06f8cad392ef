/* What the search lists first: chapters, then pages to look things up, then entries of the API reference. Sphinx writes this
   into searchtools.js (settings.py names this file). */
var Scorer = {
  // result: [page, title, anchor, description, score, file]
  score: (result) => {
    const [page, , , , score] = result;
    if (/^nbs\/\d\d[a-z]?_/.test(page)) return score + 8;
    if (/^nbs\/(api|library)\//.test(page)) return score - 10;
    return score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
