"""Columns are guessed as people name them; a row is a person or a reason."""

from __future__ import annotations

import csv
import io
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wabcast import tables
from wabcast.contacts import (
    Columns,
    Contact,
    guess,
    identifier,
    nearly,
    read_rows,
    split_name,
    split_tags,
    variables,
)
from wabcast.errors import Refused, UsageError
from wabcast.tables import BadRow, Row

US = "+12125550123"
EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "contacts.csv"


def one(values: dict[str, str], region: str | None = None, **overrides: str) -> Contact | BadRow:
    [contact] = read_rows([Row(2, values)], guess(values, overrides), region=region)
    return contact


def person(values: dict[str, str], region: str | None = None, **overrides: str) -> Contact:
    contact = one(values, region, **overrides)
    assert isinstance(contact, Contact), contact
    return contact


@pytest.mark.parametrize(
    "headers",
    [
        "Given Name,Family Name,E-mail 1 - Value,Phone 1 - Value,Organization 1 - Name,Labels",
        "First Name,Last Name,E-mail 1 - Value,Phone 1 - Value,Organization Name,Group Membership",
        "First Name,Last Name,E-mail Address,Mobile Phone,Company,Categories",
        "First Name,Last Name,Email,Mobile Phone Number,Company name,Tags",
        "Vorname,Nachname,E-Mail,Handy,Firma,Gruppen",
        "Vorname,Name,E-Mail-Adresse,Mobiltelefon,Unternehmen,Schlagworte",
        "Nombre,Apellidos,Correo electrónico,Teléfono móvil,Empresa,Etiquetas",
        "Prénom,Nom,Courriel,Téléphone portable,Société,Étiquettes",
        "Nome,Sobrenome,E-mail,Celular,Empresa,Etiquetas",
        "Nome,Cognome,Posta elettronica,Cellulare,Azienda,Etichette",
        "first_name,last_name,email,phone_number,company_name,tags",
        "firstName,lastName,emailAddress,mobilePhone,companyName,tags",
        "FIRST NAME,LAST NAME,EMAIL,WHATSAPP NUMBER,COMPANY,TAG",
    ],
)
def test_the_headers_of_the_world(headers: str) -> None:
    cells = dict(zip(headers.split(","), ["Ana", "Díaz", "a@x.example", US, "Acme", "vip"]))  # noqa: B905 - six of each
    assert person(cells) == Contact(
        US, "Ana", "Díaz", "Ana Díaz", "a@x.example", "Acme", tags=("vip",)
    )


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ({"Home Phone": "+12125550100", "Mobile Phone": US}, "Mobile Phone"),
        ({"Phone": "+12125550100", "WhatsApp": US, "Mobile": "+12125550101"}, "WhatsApp"),
        ({"Home Phone": US, "Mobile Phone": ""}, "Home Phone"),
        ({"Home Phone": US, "Mobile Phone": " - "}, "Home Phone"),
        (
            {
                "Phone 1 - Type": "Home",
                "Phone 1 - Value": "+12125550100",
                "Phone 2 - Type": "Mobile",
                "Phone 2 - Value": US,
            },
            "Phone 2 - Value",
        ),
        (
            {
                "Phone 1 - Label": "Work Fax",
                "Phone 1 - Value": "+12125550100",
                "Phone 2 - Label": "Work",
                "Phone 2 - Value": US,
            },
            "Phone 2 - Value",
        ),
    ],
)
def test_the_number_that_has_whatsapp_is_preferred(values: dict[str, str], chosen: str) -> None:
    contact = person(values)
    assert contact.phone == US
    assert chosen not in contact.attributes


def test_the_phones_that_were_not_chosen_stay_as_attributes() -> None:
    contact = person({"Home Phone": "+12125550100", "Mobile Phone": US})
    assert contact.attributes == {"Home Phone": "+12125550100"}


def test_a_mapping_wins_over_every_guess() -> None:
    values = {"Phone": "7", "Ruf": US, "Name": "Doe", "Rank": "Ltd", "Company": "x"}
    contact = person(values, phone="Ruf", company="rank", last_name="Name")
    assert (contact.phone, contact.company, contact.last_name) == (US, "Ltd", "Doe")
    assert contact.attributes == {"Phone": "7", "Company": "x"}
    assert variables(contact)["company"] == "Ltd"


def test_a_mapping_that_cannot_be_names_what_exists() -> None:
    with pytest.raises(UsageError) as wrong:
        guess(["Phone", "Ort"], {"city": "Ort"})
    assert "first_name" in wrong.value.hint
    with pytest.raises(UsageError) as wrong:
        guess(["Phone", "Ort"], {"company": "Firma"})
    assert "Ort" in wrong.value.hint


def test_without_a_phone_column_the_headers_are_listed() -> None:
    with pytest.raises(Refused, match="Name, Ort") as refusal:
        guess(["Name", "Ort"])
    assert "--map phone=HEADER" in refusal.value.hint
    with pytest.raises(Refused, match="like a person"):
        guess([US, "Bob"])


def test_a_bad_phone_is_a_bad_row_with_everything_it_had() -> None:
    values = {"Mobile": "4.91512E+11", "Name": "A"}
    bad = one(values)
    assert isinstance(bad, BadRow)
    assert bad.values == values
    assert bad.reason.startswith("Mobile: Excel has shortened")


def test_a_bad_row_of_the_file_passes_through() -> None:
    bad = BadRow(7, "why", {})
    assert list(read_rows([bad], Columns(("Phone",)))) == [bad]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("Ana", "Ana", ""),
        ("Ana María López", "Ana", "María López"),
        ("Doe, Jane", "Jane", "Doe"),
        ("Dr. Prof. Eva Braun-Sá", "Eva", "Braun-Sá"),
        ("Dr.", "Dr.", ""),
        ("[red]{{7*7}}", "[red]{{7*7}}", ""),
        ("李小龙", "李小龙", ""),
        ("", "", ""),
    ],
)
def test_a_whole_name_is_split_gently(name: str, first: str, last: str) -> None:
    assert split_name(name) == (first, last)
    if name:
        assert person({"Phone": US, "Name": name}).name == name


def test_text_loses_its_controls_and_nothing_else() -> None:
    contact = person({"Phone": US, "Name": "A\x1b[2J\r\nB\tC \u200fד", "Note": " 1\r\n2\x00\t3 "})
    assert contact.name == "A[2J B C \u200fד"
    assert contact.attributes == {"Note": "1\n2 3"}


def test_tags() -> None:
    assert split_tags("vip, new;VIP|x ::: * myContacts ::: * friends", "vip") == (
        "vip", "new", "VIP", "x", "friends"
    )  # fmt: skip
    [contact] = read_rows([Row(2, {"Phone": US})], guess(["Phone"]), tags=["spring"])
    assert isinstance(contact, Contact)
    assert contact.tags == ("spring",)


def test_variables_are_what_a_template_may_say() -> None:
    contact = Contact(
        US,
        "Ana",
        company="",
        attributes={"Loyalty Points": "0", "company": "no", "Straße": "x", "2nd": "y", "a b": "1"}
        | {"a_b": "2", "first_name": "no", "!": "z"},
    )
    assert variables(contact) == {
        "firstName": "Ana",
        "first_name": "Ana",
        "phone": US,
        "Straße": "x",
        "Loyalty Points": "0",
        "Loyalty_Points": "0",
        "2nd": "y",
        "_2nd": "y",
        "a b": "1",
        "a_b": "2",
        "!": "z",
    }


@given(st.text(max_size=20))
def test_an_identifier_is_one_or_nothing(name: str) -> None:
    safe = identifier(name)
    assert safe == "" or all(c.isalnum() or c == "_" for c in safe)


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12), max_size=6))
def test_nothing_of_a_row_is_lost(extra: dict[str, str]) -> None:
    contact = person({**extra, "my phone": US}, phone="my phone")
    said = {contact.first_name, contact.last_name, contact.name, contact.email, contact.company}
    said |= {contact.language or "", contact.timezone or "", *contact.attributes.values()}
    for header, value in extra.items():
        clean = "".join(c for c in value if c.isprintable()).strip()
        if clean == value and header != "my phone":
            assert not value or value in said or guess([*extra, "Phone"]).tags == (header,)


def test_the_example_file_is_200_people_and_some_who_are_not() -> None:
    with EXAMPLE.open("rb") as stream:
        table = tables.read(stream, name=EXAMPLE.name)
        results = list(read_rows(table, guess(table.headers), region=None))
    people = [r for r in results if isinstance(r, Contact)]
    bad = [r for r in results if isinstance(r, BadRow)]
    assert len({p.phone for p in people}) == 200
    assert len(people) > 200  # some are in it twice, in different spellings
    assert len(bad) == 8
    assert any("Excel" in b.reason for b in bad)
    assert {p.phone[-1] for p in people} == set("0123456789")
    assert {p.first_name for p in people} >= {"[red]{{7*7}}", "<script>alert(1)</script>"}


def test_the_example_file_is_plain_csv_to_others_too() -> None:
    text = EXAMPLE.read_text(encoding="utf-8-sig")
    widths = {len(cells) for cells in csv.reader(io.StringIO(text, newline="")) if cells}
    assert widths == {9}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("city", "Berlin"),
        ("CITY", "Berlin"),
        ("loyaltypoints", "7"),
        ("loyalty_points", "7"),
        ("straße", "Allee 1"),
        ("blank", None),
        ("firstname", None),  # a field, and so never an attribute's affair
        ("cities", None),
    ],
)
def test_an_attribute_is_found_by_a_name_that_is_nearly_its_own(
    name: str, told: str | None
) -> None:
    attributes = {"City": "Berlin", "Loyalty Points": "7", "STRASSE": "Allee 1", "Blank": ""}
    assert nearly(name, attributes | {"First-Name": "Eve"}) == told
