"""What ./dev mutate changes, and what it leaves alone."""

import unittest

import paths  # noqa: F401
import mutate

SOURCE = '''\
// a < b, in words
#include <vector>
int f(int a) {
  const int x = a + 1;
  if (a == 0x10) return g("a + b", '+');
  state->x = a;
  note(a);
  return x;
}
'''


class MutateTest(unittest.TestCase):
    def setUp(self):
        self.made = [mutant.text() for mutant in mutate.mutants(SOURCE)]

    def test_operators_numbers_conditions_and_statements(self):
        for text in ("4: +  ->  -", "4: 1  ->  2", "5: ==  ->  !=", "5: 0x10  ->  17", "5: a == 0x10  ->  true",
                     "5: a == 0x10  ->  false", "6: state->x = a;  ->  ;", "7: note(a);  ->  ;"):
            self.assertIn(text, self.made)

    def test_comments_strings_includes_arrows_and_declarations_stay(self):
        self.assertEqual(len(self.made), 8, self.made)

    def test_a_mutant_is_the_source_with_one_place_changed(self):
        mutant = next(m for m in mutate.mutants(SOURCE) if m.was == "==")
        changed = SOURCE[:mutant.begin] + mutant.instead + SOURCE[mutant.end:]
        self.assertEqual(changed, SOURCE.replace("==", "!="))

    def test_every_subject_is_there(self):
        self.assertEqual([name for name in mutate.SUBJECTS if not (mutate.ROOT / name).exists()], [])

    def test_files_without_tests_are_refused(self):
        with self.assertRaisesRegex(SystemExit, "no tests are named for README.md"):
            mutate.chosen(["README.md"])
        self.assertEqual(mutate.chosen(["src/guest/page_walk.cc:7"]), {"src/guest/page_walk.cc": 7})


if __name__ == "__main__":
    unittest.main()
