"""The chart's values keep to their schema, and wrong ones do not."""
import copy
import glob
import json
import os
import sys
import unittest

import jsonschema
import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tests")]
import cases  # noqa: E402
CHART = os.path.join(ROOT, "deploy", "helm", "engram")
PROFILES = os.path.join(ROOT, "deploy", "helm", "profiles")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def merged(values, over):
    """As helm merges: maps key by key, anything else is replaced."""
    if not isinstance(values, dict) or not isinstance(over, dict):
        return over
    return {**values, **{key: merged(values.get(key), value) for key, value in over.items()}}


class Chart(unittest.TestCase):
    def setUp(self):
        self.values = yaml.safe_load(read(os.path.join(CHART, "values.yaml")))
        schema = json.loads(read(os.path.join(CHART, "values.schema.json")))
        jsonschema.Draft7Validator.check_schema(schema)
        self.schema = jsonschema.Draft7Validator(schema)

    def valid(self, over):
        return self.schema.is_valid(merged(copy.deepcopy(self.values), over))

    def test_defaults_and_profiles_keep_to_the_schema(self):
        self.assertTrue(self.valid({}))
        for path in glob.glob(os.path.join(PROFILES, "*.yaml")):
            self.assertTrue(self.valid(yaml.safe_load(read(path))), path)

    def test_the_schema_knows_every_value_and_no_other(self):
        def check(values, schema, where):
            if schema.get("additionalProperties") is not False:
                return
            self.assertEqual(set(values), set(schema["properties"]) - {"global"}, where)
            for key, value in values.items():
                check(value, schema["properties"][key], f"{where}.{key}")
        check(self.values, self.schema.schema, "values")

    def test_refuses_wrong_values(self):
        for over in ({"stores": {"replica": 2}}, {"stores": {"replicas": 0}}, {"stores": {"numa": "node0"}},
                     {"stores": {"antiAffinity": "no"}}, {"stores": {"memory": "lots"}}, {"tables": {"sets": []}},
                     {"tables": {"sets": ["/absolute"]}}, {"state": {"volume": {}}}, {"stores": {"lameDuckSeconds": 60}}, {"stores": {"extraArgs": ["listen"]}}, {"typo": 1},
                     {"cluster": {"partitions": 0}}, {"cluster": {"partitions": "4"}}, {"cluster": {"register": {"endpoints": ["etcd"]}}},
                     {"cluster": {"register": {"endpoints": ["http://etcd:2379"]}}}, {"cluster": {"register": {"prefix": "/engram"}}}):
            self.assertFalse(self.valid(over), over)


if __name__ == "__main__":
    cases.main()
