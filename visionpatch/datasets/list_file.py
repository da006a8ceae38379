"""Reading a CSV file that lists pictures and their classes."""

import csv
import re

from visionpatch.errors import DataError, nearest

from .paths import IMAGE_SUFFIXES

NUMBER = re.compile(r"[+-]?\d+\.?\d*(e[+-]?\d+)?")
Rows = list[tuple[int, dict[str, str]]]  # line number, cells by column


def read_list(
    path: str, file_column: str, label_column: str, name_column: str | None = "name"
) -> tuple[list[tuple[str, int | str]], dict[int, str]]:
    """The samples (file, class index or class name), and {class index: name} of the name column, if there is one.

    The first line names the columns; spaces around a name and its case do not matter. Columns are parted by commas,
    semicolons or tabs, whichever the first line has most of. The classes are indices in every line, or names.

    Raises:
        DataError: the file cannot be read or is empty, a column is missing, a line is wrong or contradicts another one.
    """
    columns, rows = _read_cells(path)
    file_key = _find_column(path, columns, file_column, "file_column")
    label_key = _find_column(path, columns, label_column, "label_column")
    if not rows:
        raise DataError(f"{path}: list file (ann_file) is empty: 0 samples")
    labels = [row[label_key] for _, row in rows]
    named = not any(NUMBER.fullmatch(label) for label in labels)
    samples: dict[str, int | str] = {}
    listed: list[tuple[str, int | str]] = []
    names: dict[int, str] = {}
    for number, row in rows:
        file, label = row[file_key].replace("\\", "/"), row[label_key]
        wrong = not label if named else not label.isdecimal() or len(label) > 6
        if not file or wrong:
            kind = "name" if named else "index 0..999999"
            raise DataError(f"{path}, line {number}: a file and a class {kind} are expected, not {str(row)[:200]}")
        given: int | str = label if named else int(label)
        if samples.setdefault(file, given) != given:
            raise DataError(f"{path}, line {number}: {file} has the class {given} here and {samples[file]} before")
        listed.append((file, given))
        name = row.get(name_column or "")
        if isinstance(given, int) and name and names.setdefault(given, name) != name:
            raise DataError(
                f'{path}, line {number}: class {given} is "{name}" here and "{names[given]}" before; correct the '
                f'column "{name_column}", or set metainfo=dict(classes=...), which goes before it'
            )
    return listed, names


def _read_cells(path: str) -> tuple[list[str], Rows]:
    """The names of the columns, and the lines that are not blank."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count))
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: list file (ann_file) cannot be read: {error}") from None
    if not lines:
        raise DataError(f"{path}: list file (ann_file) is empty: 0 samples")
    columns = lines[0][1]
    for number, cells in lines[1:]:
        if len(cells) != len(columns):
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells, but the first line names {len(columns)} columns; a cell "
                f"with a comma in it stands in double quotes: {str(cells)[:200]}"
            )
    return columns, [(number, dict(zip(columns, cells))) for number, cells in lines[1:]]


def _find_column(path: str, columns: list[str], name: str, argument: str) -> str:
    """The column called `name`, in upper or lower case."""
    if name in columns:
        return name
    found = [column for column in columns if column.lower() == name.lower()]
    if found:
        return found[0]
    if any(column.lower().endswith(IMAGE_SUFFIXES) for column in columns):
        remedy = "; it lists a picture, but has to name the columns, such as file,class_index"
    else:
        remedy = f"{nearest(name, columns)} it names {', '.join(columns)[:200]}; set {argument} to the one meant"
    raise DataError(f'{path}: the first line has no column "{name}"{remedy}')
