"""Fixed input for the workloads that eat files: text to compress and encrypt, and a C file to compile."""


class Numbers:
    """A linear congruential generator (Knuth's MMIX), written out so that no library can change it."""

    def __init__(self, seed: int):
        self._state = seed

    def below(self, limit: int) -> int:
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 33) % limit


def text(size: int) -> bytes:
    """Looks like a log: words of which a few are frequent, and numbers."""
    numbers = Numbers(1)
    letters = "etaoinshrdlcumwfgypbvk"
    words = ["".join(letters[numbers.below(1 + numbers.below(22))] for _ in range(2 + numbers.below(8)))
             for _ in range(4000)]
    lines, length = [], 0
    while length < size:
        chosen = [words[numbers.below(1 + numbers.below(4000))] for _ in range(3 + numbers.below(9))]
        lines.append(f"{length:08x} {' '.join(chosen)} {numbers.below(10**6)}\n")
        length += len(lines[-1])
    return "".join(lines).encode()[:size]


def _expression(numbers: Numbers, depth: int) -> str:
    if depth == 0:
        return ("a", "b", "i", "s->x", "s->y", f"t[i & {2 ** numbers.below(5) - 1}]",
                str(numbers.below(1000)) + "u")[numbers.below(7)]
    left, right = _expression(numbers, depth - 1), _expression(numbers, depth - 1)
    operator = ("+", "-", "*", "^", "&", "|", "%", ">>", "<")[numbers.below(9)]
    if operator == "%":
        right = f"({right} | 1u)"
    if operator == ">>":
        right = f"({right} & 31u)"
    return f"({left} {operator} {right})"


def c_source(functions: int) -> bytes:
    numbers = Numbers(2)
    out = ["struct S { unsigned x, y; struct S *next; };\n"]
    for index in range(functions):
        callee = f"f{numbers.below(index)}(a, s, t)" if index else "a"
        cases = "".join(f"      case {case}: b += {_expression(numbers, 2)}; break;\n" for case in range(6))
        out.append(f"""
unsigned f{index}(unsigned a, struct S *s, unsigned *t) {{
  unsigned b = 1, i;
  for (i = 0; i < (a & 15u); i++) {{
    switch ({_expression(numbers, 1)} % 8u) {{
{cases}      default: s->x = {_expression(numbers, 3)};
    }}
    if ({_expression(numbers, 2)} > {_expression(numbers, 1)}) t[i] ^= b; else b += {callee};
  }}
  while (s) {{ s->y += {_expression(numbers, 3)}; s = s->next; }}
  return b ^ (unsigned)(t[3] * 0.5);
}}
""")
    return "".join(out).encode()
