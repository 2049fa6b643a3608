"One word, one meaning, and it is the field's: what the pages, the package and the READMEs must not say, and what they explain."

import re
import pytest
from frame import ROOT, cells, name, notebooks

WORDS = {  # pattern -> what to write instead; `prose:` counts in Markdown alone
    r"vectors? that (ask|answer)s?|(dot|point|position|query) asks|asks which pixels": "query and key features; query position",
    r"\bsaid\b|\bkeep_score\b|network (itself )?says": "prediction, logits, probabilities; message; stated",
    r"\b(the|one|its) weak prediction\b": "prediction on the weakly augmented view",
    r"\b(un)?sure\b|\btrusted\b|\bbelieved\b|\btrusting\b": "confident (pixels), accepted (regions)",
    r"trusted share|of these right": "mask ratio, selection ratio; pseudo-label accuracy",
    r"prose:\bteach(es)?\b|learns? from (itself|its own|the weak)|pixels? (that )?learns?\b": "supervises; is a target",
    r"labels? travels?\b|regions? spreads?\b|\bswallow": "label propagation, region propagation, over-propagation",
    r"\belections?\b|\bballots?\b|\bvoters?\b|who agrees|\bagreeing\b": "majority vote, per-class counts, order",
    r"correlated (prediction|logits)": "propagated logits z; the map is C",
    r"\bcorr_s\b(?!\w)": "superscripts _l, _w, _s; losses unsup_corr and so on",
    r"prose:weak to strong|prose:labelled only": "FixMatch-style consistency baseline; supervised only",
    r"coloured (view|image|crop)s?\b": "photometric augmentation",
    r"CutMix partner": "CutMix source",
    r"prose:pixels? (costs?|pays?)\b|it pays\b": "per-pixel loss, sum, normaliser",
    r"\bpulls?\b(?! request)": "upstream gradient",
    r"prose:(?<![Ll]earning )(?<!dilation )\brate\b(?! of 5\b)": "learning rate",
    r"\btrain_step\b": "losses (forward), training_step (with backward and optimiser)",
    r"computed twice": "activation checkpointing",
    r"\bme: Processes|\bme\.(rank|world|main)\b": "dist",
    r"\bevidence\b|def move\(|\brivals?\b": "batch statistic, update, value; threshold variants",
    r"\bRecord\b|\bleft_out\(|\bsurroundings\b|\bplainly\b|\bboard\(|\bwatch=|\bPlan\b|\bmake_plan\b": (
        "metric logger, skip non-finite step, run metadata, TensorBoard writer, callback, run context"
    ),
    r"\bliteral(ly)?\b|\w_literal\b|[Kk]eep me (slow|plain)": "reference implementation",
    r"\bmiddle crop\b": "centre crop",
    r"\btaps?\b|feature cells?\b|cells? of the (last )?map|\bx \d+ cells\b": "kernel positions; feature positions (grid)",
    r"in one line\b.*\bis said|\b(is|are) refused\b|\b[Ff]indings?\b(?! the)": "is an error / warning; diagnostic",
    r"\bdear(er)?\b(?!,)|\bill\b|\bmend(s|ed)?\b|\bstumps?\b|\bfeed(s|ing)?\b(?!-)": (
        "expensive, failing, corrected, truncated, data loading"
    ),
    r"(?<!make )\brooms?\b|the facts say|the reference names": "page or module",
}
ALLOWED = (  # legitimate uses: where they stand, the whole phrase
    ("reference/weights", "git lfs pull"),
    ("reference/weights", "line feed"),
    ("reference/testing", "self.feed(text)"),
    ("reference/testing", "invalid literal"),  # Python's own message
    ("book/09_objective", "train_step.safetensors"),
    ("paper/map", "golden_train_step"),
    ("book/04_model", "rate 36"),  # of a dilated convolution, named there
    ("methods/index", "Who teaches whom"),  # the drawing that every method has
    ("reference/diagram", "# Who teaches whom"),
    ("results/", "labelled_only"),
    ("CHANGELOG.md", ""),  # what it tells of is history, in the words of then
    ("SECURITY.md", "do not trust"),
    ("results/LOG.md", ""),
    ("results/benchmarks/old", ""),
    ("reference/folders", "## Finding the files"),
)


def sources() -> list[tuple[str, str, str]]:
    "Place, kind and text: the pages (the package is exported from them), the READMEs, the Python beside the package."
    found = [(name(p), c.cell_type, c.source) for p in notebooks() for c in cells(p)]
    files = [
        *ROOT.glob("*.md"),
        ROOT / "nbs" / "zh.md",
        *(ROOT / "results").rglob("*.md"),
        *ROOT.glob("benchmarks/*.md"),
    ]
    found += [(f.relative_to(ROOT).as_posix(), "markdown", f.read_text(encoding="utf-8")) for f in files]
    files = [f for part in ("docs", "reproduction", "benchmarks") for f in (ROOT / part).rglob("*.py")]
    files = [f for f in files if f.name != "_modidx.py" and "tests" not in f.relative_to(ROOT).parts]
    return found + [(f.relative_to(ROOT).as_posix(), "code", f.read_text(encoding="utf-8")) for f in files]


def allowed(place: str, line: str) -> bool:
    return any(place.startswith(where) and phrase in line for where, phrase in ALLOWED)


def forbidden(place: str, kind: str, text: str) -> list[str]:
    "The lines of a text that use a word of the left column, each with what to write."
    found = []
    for pattern, instead in WORDS.items():
        prose = pattern.startswith("prose:")
        if prose and kind == "code":
            continue
        for line in text.splitlines():
            hit = re.search(pattern.replace("prose:", ""), line)
            if hit and not allowed(place, line):
                found.append(f"{place}: '{line[max(0, hit.start() - 50) : hit.end() + 30].strip()}'; write: {instead}")
    return found


def test_the_words_are_the_fields():
    found = [line for place, kind, text in sources() for line in forbidden(place, kind, text)]
    assert not found, f"{len(found)} lines:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "kind, text",
    [
        ("markdown", "the vector that asks and the vectors that answer"),
        ("markdown", "as was said above"),
        ("code", "said = str(error)"),
        ("markdown", "the weak prediction is the target"),
        ("markdown", "pixels that are trusted"),
        ("code", "sure = confidence >= tau"),
        ("markdown", "each pixel that teaches"),
        ("markdown", "labels travel along the map, regions spread"),
        ("code", "ballots = voters.sum(1)"),
        ("markdown", "the correlated logits"),
        ("markdown", "| weak to strong | labelled only |"),
        ("markdown", "coloured views"),
        ("markdown", "what a pixel costs"),
        ("code", "pull = leaf.grad"),
        ("markdown", "the rate falls"),
        ("code", "def f(me: Processes): pass"),
        ("code", "def evidence(self): pass"),
        ("code", "class Record: pass"),
        ("markdown", "the literal version"),
        ("code", '"Pixel by pixel. Keep me slow."'),
        ("markdown", "a tap of the kernel"),
        ("markdown", "such a file is refused"),
        ("markdown", "one finding"),
        ("markdown", "the input is mended"),
        ("markdown", "every page shows its own room"),
    ],
)
def test_a_word_of_the_workshop_is_noticed(kind, text):
    assert forbidden("book/01_problem", kind, text)


def test_every_allowed_use_is_used():
    "A phrase that no page has any more needs no permission."
    texts = sources()
    for where, phrase in ALLOWED:
        assert any(place.startswith(where) and phrase in text for place, _, text in texts), (where, phrase)


DISPLAYED, INLINE = re.compile(r"\$\$(.+?)\$\$", re.S), re.compile(r"(?<!\$)\$(?!\$)([^$\n]+)\$(?!\$)")
NO_SYMBOL = (  # words, layout, numbers, operators
    r"\\begin\{\w+\}|\\end\{\w+\}|\\\\\[\dpt]+|\\(text|mathrm|operatorname\*?)\{[^}]*\}|\\mathbb (?=1)"
    r"|\\(big|Big|left|right|quad|qquad|frac|tfrac|sum|sqrt|log|max|min|lfloor|rfloor|lceil|rceil|langle|rangle|cdot|odot"
    r"|cup|cap|setminus|in|le|ge|sim|approx|top|leftarrow|Longrightarrow|bmod|dots|times|to|infty)(?![A-Za-z])"
)
SYMBOL = re.compile(
    r"\\mathcal\s*\{?\s*[A-Z]|\\(?:Delta|eta|tau|lambda|sigma|delta|alpha|mu|ell)(?![a-z])|(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])"
)


def symbols(math: str) -> set[str]:
    "The letters of a formula, without decoration, index and power marks."
    bare = re.sub(NO_SYMBOL, " ", re.sub(r"\\(hat|mathring|bar|tilde)\b", " ", math))
    return {re.sub(r"[\s{]", "", s) for s in SYMBOL.findall(re.sub(r"[{}_^]", " ", bare))}


def legend() -> set[str]:
    "The letters of the glossary."
    page = next(p for p in notebooks() if name(p) == "glossary")
    rows = [line for c in cells(page) for line in c.source.splitlines() if line.startswith("| $")]
    return {s for row in rows for s in symbols(row.split("|")[1].replace("$", " "))}


def unexplained(text: str, known: set[str]) -> set[str]:
    "Letters of displayed equations that neither a sentence or legend of the page nor the glossary names."
    shown = {s for formula in DISPLAYED.findall(text) for s in symbols(formula)}
    named = {s for formula in INLINE.findall(DISPLAYED.sub(" ", text)) for s in symbols(formula)}
    return shown - named - known


@pytest.mark.parametrize("path", [p for p in notebooks() if name(p).startswith("book/")], ids=name)
def test_every_letter_of_an_equation_is_explained(path):
    text = "\n".join(c.source for c in cells(path) if c.cell_type == "markdown")
    assert not unexplained(text, legend()), "name it in a sentence or a legend of the page, or in the glossary"


def test_a_letter_without_explanation_is_noticed():
    assert unexplained(r"$$a=\mathcal Q\,b_i+\eta$$ where $b_i$ is the bias", {"a"}) == {r"\mathcalQ", r"\eta"}
    assert not unexplained(
        r"$$\text{mean}=\frac{1}{|V|}\sum_{p\in V}\tau$$ over the valid pixels $V$, pixel $p$", {r"\tau"}
    )


FORMS = {  # of a term, where its entry in the glossary has another form than the text, or an everyday word for a name
    "OHEM": r"OHEM|[Oo]nline hard example mining",
    "Query and key features": r"[Qq]uery( and key)? features|[Kk]ey features",
    "Student and teacher": r"([Ss]tudent|[Tt]eacher)s?",
    "Supervised only": r"[Ss]upervised[- ]only",
    "Rank": r"([Tt]his|[Ss]everal|[Tt]wo|[Ee]ach|[Ee]very|[Aa]ll) ranks?|rank 0",  # not: three classes by rank
    "Spread": r"[Ss]pread (of|over) (the |all )?seeds|± spread",  # not: spread over images
    "Run": r"([Aa]|[Tt]he|[Ee]ach|[Ee]very|[Oo]ne|[Ww]hole|[Rr]esumed) runs?",  # not: when lists run out
    "Contrast": r"[Cc]ontrast (between|with|of) (pixels|features)|InfoNCE",  # not: brightness and contrast
}


def term_pattern(term: str, form: str | None = None) -> re.Pattern:
    "A term in a text: with a capital or without, one or several, with blank or hyphen."
    free = "".join(f"[{c.lower()}{c.upper()}]" if i == 0 and not term[:2].isupper() else c for i, c in enumerate(term))
    return re.compile(rf"(?<![\w-])({form or re.sub('[ -]', '[ -]', free) + '(s|es)?'})(?![\w-])")


def read_text(page: str) -> str:
    "Prose without code, formulas and the line that leads to the next page."
    return re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$\n]*\$|`[^`]*`|^(Next|Back).*$", " ", page, flags=re.S | re.M)


def introduced(page: str) -> str:
    "What a page sets apart: its headings and subtitle, words in italics or bold, links to the glossary."
    kinds = r"^(?:#+|>) (.+)$", r"\*\*?(?=\S)([^*\n]+?)(?<=\S)\*\*?", r"\[([^\]]+)\]\([^)]*glossary\.ipynb[^)]*\)"
    return "\n".join(found for kind in kinds for found in re.findall(kind, read_text(page), re.M))


def used_before(pages: dict[str, str], terms: list[str]) -> list[str]:
    "Terms that a page uses, and neither it nor a page before it introduces."
    found, known = [], set()
    for where, page in pages.items():
        apart = introduced(page)
        known |= {t for t in terms if any(term_pattern(t, form).search(apart) for form in (None, FORMS.get(t)))}
        bare = re.sub(r"\]\([^)]*\)", "]", read_text(page))
        for term in terms:
            if term not in known and (hit := term_pattern(term, FORMS.get(term)).search(bare)):
                line = bare[max(0, hit.start() - 50) : hit.end() + 30].replace("\n", " ")
                found.append(f"{where}: {term!r} in '{line.strip()}'")
                known.add(term)  # told once
    return found


def entries() -> list[str]:
    "The terms of the glossary."
    page = next(p for p in notebooks() if name(p) == "glossary")
    return re.findall(r"^### (.+)$", "\n".join(c.source for c in cells(page)), re.M)


def test_the_book_introduces_a_term_before_it_uses_it():
    read = lambda path: "\n\n".join(c.source for c in cells(path) if c.cell_type == "markdown")
    pages = {name(p): read(p) for p in notebooks() if name(p).startswith("book/")}
    found = used_before(pages, entries())
    told = "explain it there in italics, or link it: [term](../glossary.ipynb#term)"
    assert len(entries()) > 70 and not found, f"{told}\n" + "\n".join(found)


@pytest.mark.parametrize(
    "first, ok",
    [
        ("A *pseudo-label* is a predicted class.", True),
        ("## Pseudo-labels", True),
        ("A [pseudo-label](../glossary.ipynb#pseudo-label) here.", True),
        ("Take the pseudo-labels.", False),
        ("$$pseudo-label$$ and `*pseudo-label*`", False),
        ("* a list\n* of *things*, then pseudo-labels", False),
    ],
)
def test_a_term_used_before_it_is_introduced_is_noticed(first, ok):
    pages = {"one": first, "two": "Every pseudo-label counts.", "three": "*Pseudo-labels* at last."}
    assert bool(used_before(pages, ["Pseudo-label"])) != ok
