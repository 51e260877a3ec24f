"""schemathesis over /openapi.json: no request that it thinks of gets a 5xx, and answers are what the schema says."""
import os
import subprocess
import sys
import unittest

from clients import Case

RUN = os.path.join(os.path.dirname(sys.executable), "schemathesis")


class Schemathesis(Case):
    ENV = {"EMBEDDING_L1_CACHE_SIZE": "100"}

    def test_every_route(self):
        p = subprocess.run(
            [RUN, "run", self.url + "/openapi.json", "--url", self.url, "--checks",
             "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
             "--max-examples", os.environ.get("EMBEDD_SCHEMA_EXAMPLES", "25"), "--seed", "1", "--workers", "1",
             "--request-timeout", "60", "--phases", "examples,coverage,fuzzing", "--no-color"],
            cwd=self.service.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=850)
        self.assertEqual(p.returncode, 0, p.stdout.decode("utf-8", "replace")[-8000:])
        self.assertEqual(self.service.get("/health")[0], 200)


if __name__ == "__main__":
    unittest.main()
