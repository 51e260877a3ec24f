"""Options, help, environment and exit statuses."""
import os
import re
import unittest

from harness import Case, ROOT

COMMANDS = ["embed", "similarity", "tokenize", "models", "inspect", "bench", "quantize", "config", "key", "version",
            "help"]


class Options(Case):
    def test_no_command(self):
        r = self.run_program()
        self.assertEqual(r.code, 2)
        self.assertIn("Usage: embedd COMMAND", r.out)

    def test_help_lists_commands(self):
        for words in (["help"], ["--help"], ["-h"]):
            out = self.good(*words).out
            for command in COMMANDS:
                self.assertRegex(out, r"(?m)^  %s +\w" % command)

    def test_help_of_each_command(self):
        for command in COMMANDS:
            r = self.good(command, "--help")
            self.assertEqual(r.out, self.good("help", command).out)
            self.assertEqual(r.out, self.good(command, "-h").out)
            self.assertTrue(r.out.startswith("Usage: embedd " + command))
            self.assertEqual(r.err, "")
            for line in r.out.splitlines():
                self.assertLessEqual(len(line), 100, line)
                self.assertEqual(line, line.rstrip())

    def test_help_wins_over_other_mistakes(self):
        self.assertEqual(self.good("embed", "--nonsense", "--help").out, self.good("help", "embed").out)

    def test_documentation_has_the_help(self):
        with open(os.path.join(ROOT, "docs", "cli.md"), encoding="utf-8") as f:
            page = f.read()
        for command in COMMANDS:
            self.assertIn(self.good("help", command).out, page, "docs/cli.md is behind the help of " + command)

    def test_version(self):
        out = self.good("version").out
        self.assertRegex(out, r"^embedd \d+\.\d+\.\d+\ninstruction sets: .*portable")
        self.assertEqual(out, self.good("--version").out)

    def test_unknown_command(self):
        self.assertEqual(self.usage("embd", "x"), "embedd: unknown command 'embd'; did you mean 'embed'?")
        self.assertEqual(self.usage("frobnicate"), "embedd: unknown command 'frobnicate'")
        self.assertEqual(self.usage("help", "nothing"), "embedd help: there is no command 'nothing'")

    def test_unknown_option(self):
        for wrong, right in (("--modle", "--model"), ("--formt=json", "--format"), ("--dimension", "--dimensions"),
                             ("--treads", "--threads"), ("--quite", "--quiet"), ("--hlep", "--help")):
            self.assertEqual(self.usage("embed", wrong, "x"),
                             "embedd embed: unknown option '%s'; did you mean '%s'?" % (wrong.split("=")[0], right))
        self.assertEqual(self.usage("embed", "--zzzzzzzzzzzz"), "embedd embed: unknown option '--zzzzzzzzzzzz'")
        self.assertEqual(self.usage("embed", "-x"),
                         "embedd embed: unknown option '-x'; a text that starts with '-' goes after '--'")

    def test_wrong_values(self):
        for words, message in (
                (["--threads", "abc"], "--threads: 'abc' is not a whole number from 0 to 1024"),
                (["--threads", "-1"], "--threads: '-1' is not a whole number from 0 to 1024"),
                (["--threads=1025"], "--threads: '1025' is not a whole number from 0 to 1024"),
                (["-t", "99999999999999999999999"],
                 "-t: '99999999999999999999999' is not a whole number from 0 to 1024"),
                (["--dimensions", "0"], "--dimensions: '0' is not a whole number from 1 to 65536"),
                (["--format", "xml"], "--format: 'xml' is not one of json|jsonl|npy|base64|text"),
                (["--format="], "--format: '' is not one of json|jsonl|npy|base64|text"),
                (["--precision=fp16"], "--precision: 'fp16' is not one of auto|fp32|bf16|int8"),
                (["--quiet=yes"], "--quiet takes no value"),
                (["--model"], "--model needs a value"),
                (["-m"], "-m needs a value")):
            self.assertEqual(self.usage("embed", "x", *words), "embedd embed: " + message)

    def test_what_excludes_each_other(self):
        for words, message in (
                ([], "no text; 'embedd embed --input -' reads standard input"),
                (["x", "--input", "f"], "give texts or --input, not both"),
                (["x", "--resume"], "--resume needs --output"),
                (["x", "--resume", "-o", "f", "--format", "npy"], "--resume works with --format jsonl only"),
                (["x", "--query", "--prompt", "p"],
                 "only one of --query, --document, --prompt-name and --prompt can be given")):
            self.assertEqual(self.usage("embed", *words), "embedd embed: " + message)
        self.assertEqual(self.usage("similarity", "a"), "embedd similarity: two texts are needed")
        self.assertEqual(self.usage("tokenize"), "embedd tokenize: a text is needed")
        self.assertEqual(self.usage("models", "x"), "embedd models: unexpected argument 'x'")
        self.assertEqual(self.usage("inspect"), "embedd inspect: a model is needed")
        self.assertEqual(self.usage("inspect", "a", "b"), "embedd inspect: unexpected argument 'b'")
        self.assertEqual(self.usage("quantize", "a"), "embedd quantize: two directories are needed")

    def test_forms(self):
        plain = self.good("embed", "--format", "text", "--dimensions", "8", "hello").out
        self.assertEqual(len(plain.split()), 8)
        for words in (["-f", "text", "-d", "8", "hello"], ["-ftext", "-d8", "hello"], ["hello", "-d8", "--format=text"],
                      ["-qf", "text", "--dimensions=8", "--", "hello"], ["-d", "4", "-d", "8", "-ftext", "hello"]):
            self.assertEqual(self.good("embed", *words).out, plain)

    def test_texts_that_look_like_options(self):
        r = self.good("embed", "--no-text", "--", "--format", "-x")
        self.assertEqual(len(r.lines()), 2)
        self.assertEqual([o["text"] for o in self.good("embed", "--", "--format", "-", "--").lines()],
                         ["--format", "-", "--"])

    def test_environment(self):
        message = self.fails(1, "embed", "x", env={"EMBEDDING_MODEL": "no-such-model-1"})
        self.assertIn("no-such-model-1", message)
        message = self.fails(1, "embed", "x", env={"EMBEDDING_MODEL": "no-such-model-1",
                                                   "LOCAL_EMBEDDING_MODEL": "no-such-model-2"})
        self.assertIn("no-such-model-2", message)
        self.good("embed", "x", "--model", "all-MiniLM-L6-v2", env={"LOCAL_EMBEDDING_MODEL": "no-such-model-2"})
        self.good("embed", "x", env={"LOCAL_EMBEDDING_MODEL": ""})
        self.assertEqual(self.usage("embed", "x", env={"LOCAL_EMBEDDING_BATCH_SIZE": "many"}),
                         "embedd embed: LOCAL_EMBEDDING_BATCH_SIZE: 'many' is not a whole number from 0 to 1048576")
        self.good("embed", "x", env={"LOCAL_EMBEDDING_BATCH_SIZE": "32"})
        self.assertIn("nonsense", self.fails(1, "embed", "x", env={"EMBEDD_ISA": "nonsense"}))
        self.assertIn("rubbish", self.fails(1, "embed", "x", "--isa", "rubbish", env={"EMBEDD_ISA": "portable"}))
        self.assertIn("device is cuda", self.fails(1, "embed", "x", env={"LOCAL_EMBEDDING_DEVICE": "cuda"}))
        self.assertIn("'tpu'", self.fails(2, "embed", "x", env={"EMBEDDING_DEVICE": "tpu"}))
        self.good("embed", "x", "--device", "cpu", env={"LOCAL_EMBEDDING_DEVICE": "cuda"})
        self.good("embed", "x", "--isa", "portable", env={"EMBEDD_ISA": "nonsense"})

    def test_model_that_is_not_there(self):
        for name in ("no-such-model", "./no/such/dir", ""):
            message = self.fails(1, "embed", "--model", name, "x")
            self.assertTrue(message.startswith("embedd embed: "), message)
            self.assertEqual(len(message.splitlines()), 1, message)
            self.assertIn(name, message)

    def test_closed_descriptors(self):
        # closed stdout must be an error, not output in a file that happens to get its number
        for command in ("embed x", "models", "help", "version", "tokenize x"):
            r = self.run_program_in_shell(command + " >&-")
            self.assertEqual(r.code, 1, command)
            self.assertIn("standard output", r.err)

    def run_program_in_shell(self, tail):
        import subprocess
        from harness import PROGRAM, Result, environment
        p = subprocess.run(["sh", "-c", '"$0" ' + tail, PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=environment(), cwd=ROOT, timeout=300)
        return Result(p.returncode, p.stdout, p.stderr)


if __name__ == "__main__":
    unittest.main()
