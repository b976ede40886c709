"""Checks the stored reports with programs that are not ours.

    pip install 'fhir.resources==7.1.0' pydicom highdicom       (and, if it is to be had, Debian's dicom3tools)
    python check.py

FHIR: the R4B models of fhir.resources, which agree with R4 in every element used here, for types, cardinalities, names and
required codes. DICOM: pydicom parses the file and the values of each VR, highdicom reads the content tree, dciodvfy checks
the information object definition.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree

import highdicom
import pydicom
import pydicom.valuerep
from fhir.resources.R4B.diagnosticreport import DiagnosticReport

HERE = pathlib.Path(__file__).parent
failed = False


def check(condition, what):
    global failed
    if not condition:
        failed = True
        print("FAILED:", what)


for path in sorted(HERE.glob("*.fhir.json")):
    text = path.read_text()
    report = DiagnosticReport.parse_raw(text)
    check(report.status == "preliminary", f"{path.name}: status")
    ids = [resource.id for resource in report.contained or []]
    references = [reference.reference[1:] for reference in report.result or []]
    check(set(references) | {"model"} >= set(ids) and set(references) <= set(ids), f"{path.name}: references")
    check(json.loads(report.json()).keys() == json.loads(text).keys(), f"{path.name}: elements lost on reading")
    xml.etree.ElementTree.fromstring(report.text.div)
    print(path.name, "is an R4B DiagnosticReport with", len(ids), "contained resources")

for path in sorted(HERE.glob("*.sr.dcm")):
    pydicom.config.settings.reading_validation_mode = pydicom.config.RAISE
    data = pydicom.dcmread(path)
    str(data)  # converts every value, so that each is validated
    check(data.CompletionFlag == "PARTIAL" and data.VerificationFlag == "UNVERIFIED", f"{path.name}: flags")
    tree = highdicom.sr.ContentSequence.from_sequence([data], is_root=True, is_sr=True)[0]
    texts = [(item.name.meaning, item.value) for section in tree.ContentSequence if section.ValueType == "CONTAINER"
             for item in section.ContentSequence]
    check(len(texts) >= 3, f"{path.name}: texts")
    for name, value in texts:
        print("   ", name, "|", value)
    if shutil.which("dciodvfy"):
        out = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        errors = [line for line in (out.stdout + out.stderr).splitlines() if line.startswith("Error")]
        check(not errors, f"{path.name}: {errors}")
        print(path.name, "dciodvfy:", (out.stdout + out.stderr).splitlines()[:1])

sys.exit(failed)
