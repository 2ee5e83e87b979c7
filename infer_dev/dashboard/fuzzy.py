"""Fuzzy search: the letters typed, in their order, anywhere in a text."""

STREAK = 5
WORD_START = 8
MISS = -1


def score(wanted: str, text: str) -> int:
    """How well `text` holds the letters of `wanted` in their order; MISS if it does not, 0 if nothing is wanted.

    Letters that follow each other, and those at the start of a word, count more; a text that is shorter wins a tie.
    """
    wanted, text = wanted.lower().replace(" ", ""), text.lower()
    if not wanted:
        return 0
    best = MISS
    for start in (index for index, letter in enumerate(text) if letter == wanted[0]):
        best = max(best, _from(wanted, text, start))
    return best


def _from(wanted: str, text: str, start: int) -> int:
    total, at, last = 1000 - len(text), start, start - 1
    for letter in wanted:
        found = text.find(letter, at)
        if found < 0:
            return MISS
        total += STREAK * (found == last + 1) + WORD_START * (found == 0 or not text[found - 1].isalnum())
        total -= found - at
        last, at = found, found + 1
    return max(total, 1)
