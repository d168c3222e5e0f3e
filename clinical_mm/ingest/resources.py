"""The parts of FHIR R4 resources that hold notes: only the elements that are read, named as FHIR names them.

An element of another type than FHIR declares makes a resource malformed; elements that are not here are skipped.
"""

import msgspec


class ResourceHead(msgspec.Struct):
    """What any resource says first."""

    resourceType: str


class Identifier(msgspec.Struct):
    """https://hl7.org/fhir/R4/datatypes.html#Identifier."""

    value: str | None = None


class Reference(msgspec.Struct):
    """https://hl7.org/fhir/R4/references.html."""

    reference: str | None = None
    identifier: Identifier | None = None

    def target_of(self, kind: str) -> str | None:
        """Id of the resource of a kind that is referred to; None where it is of another kind, or contained."""
        if not self.reference:
            return self.identifier.value if self.identifier is not None else None
        if self.reference.startswith("urn:"):
            return self.reference.removeprefix("urn:uuid:").removeprefix("urn:oid:")
        parts = self.reference.split("/_history/")[0].split("/")
        return parts[-1] if len(parts) >= 2 and parts[-2] == kind and parts[-1] else None


class Coding(msgspec.Struct):
    """https://hl7.org/fhir/R4/datatypes.html#Coding."""

    code: str | None = None
    display: str | None = None


class CodeableConcept(msgspec.Struct):
    """https://hl7.org/fhir/R4/datatypes.html#CodeableConcept."""

    text: str | None = None
    coding: list[Coding] = []

    @property
    def label(self) -> str | None:
        """Its text, else the first coding's display, else its code."""
        displays = [c.display for c in self.coding if c.display]
        codes = [c.code for c in self.coding if c.code]
        return next(iter([*([self.text] if self.text else []), *displays, *codes]), None)


class Attachment(msgspec.Struct):
    """https://hl7.org/fhir/R4/datatypes.html#Attachment."""

    contentType: str | None = None
    data: str | None = None
    url: str | None = None
    size: int | None = None
    hash: str | None = None


class Binary(msgspec.Struct):
    """https://hl7.org/fhir/R4/binary.html; contained resources of other kinds are read as one without data."""

    resourceType: str | None = None
    id: str | None = None
    contentType: str | None = None
    data: str | None = None


class Request(msgspec.Struct):
    """Bundle.entry.request."""

    method: str | None = None
    url: str | None = None


class BundleEntry(msgspec.Struct):
    """Bundle.entry, its resource not yet decoded; empty where there is none."""

    fullUrl: str | None = None
    resource: msgspec.Raw = msgspec.Raw(b"")
    request: Request | None = None


class Bundle(msgspec.Struct):
    """https://hl7.org/fhir/R4/bundle.html, its entries not yet decoded: a wrong one is not to spoil the others."""

    entry: list[msgspec.Raw] = []


class ExportFile(msgspec.Struct):
    """A file that the manifest of a bulk export names."""

    type: str
    count: int | None = None


class ExportManifest(msgspec.Struct):
    """https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---complete-status."""

    transactionTime: str
    output: list[ExportFile]


class Period(msgspec.Struct):
    """https://hl7.org/fhir/R4/datatypes.html#Period."""

    start: str | None = None
    end: str | None = None


class Meta(msgspec.Struct):
    """https://hl7.org/fhir/R4/resource.html#Meta."""

    lastUpdated: str | None = None


class Content(msgspec.Struct):
    """DocumentReference.content."""

    attachment: Attachment


class Context(msgspec.Struct):
    """DocumentReference.context."""

    period: Period | None = None


class RelatesTo(msgspec.Struct):
    """DocumentReference.relatesTo."""

    code: str
    target: Reference


class DocumentReference(msgspec.Struct):
    """https://hl7.org/fhir/R4/documentreference.html."""

    id: str | None = None
    meta: Meta | None = None
    status: str | None = None
    docStatus: str | None = None
    type: CodeableConcept | None = None
    subject: Reference | None = None
    date: str | None = None
    relatesTo: list[RelatesTo] = []
    contained: list[Binary] = []
    content: list[Content] = []
    context: Context | None = None

    @property
    def available(self) -> str | None:
        """When the document reference was made: from then it could be read."""
        return self.date

    @property
    def event(self) -> str | None:
        """When the service began that is documented."""
        period = self.context.period if self.context is not None else None
        return (period.start or period.end) if period is not None else None

    @property
    def label(self) -> str | None:
        """Kind of document."""
        return self.type.label if self.type is not None else None

    @property
    def attachments(self) -> list[Attachment]:
        """The document in one or more formats."""
        return [c.attachment for c in self.content]


class DiagnosticReport(msgspec.Struct):
    """https://hl7.org/fhir/R4/diagnosticreport.html."""

    id: str | None = None
    meta: Meta | None = None
    status: str | None = None
    code: CodeableConcept | None = None
    subject: Reference | None = None
    issued: str | None = None
    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None
    contained: list[Binary] = []
    presentedForm: list[Attachment] = []
    conclusion: str | None = None

    @property
    def available(self) -> str | None:
        """When this version was made available."""
        return self.issued

    @property
    def event(self) -> str | None:
        """The clinically relevant time."""
        period = self.effectivePeriod
        return self.effectiveDateTime or ((period.start or period.end) if period is not None else None)

    @property
    def label(self) -> str | None:
        """Kind of report."""
        return self.code.label if self.code is not None else None

    @property
    def attachments(self) -> list[Attachment]:
        """The whole report in one or more formats."""
        return self.presentedForm
