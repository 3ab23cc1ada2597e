// Comma-separated values (RFC 4180), read by libcsv.
#include <csv.h>

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "runtime/batch/formats.h"

namespace cudream {
namespace {

using Row = std::vector<std::string>;

struct Rows {
  std::vector<Row> all;
  Row row;
};

void on_cell(void* text, size_t size, void* rows) {
  static_cast<Rows*>(rows)->row.emplace_back(static_cast<const char*>(text), size);
}

void on_row(int, void* to) {
  Rows& rows = *static_cast<Rows*>(to);
  rows.all.push_back(std::exchange(rows.row, {}));
}

std::vector<Row> parse(const std::string& text) {
  csv_parser parser{};
  if (csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI) != 0) throw std::bad_alloc();
  const std::unique_ptr<csv_parser, decltype(&csv_free)> guard(&parser, csv_free);
  Rows rows;
  const size_t read = csv_parse(&parser, text.data(), text.size(), on_cell, on_row, &rows);
  if (read != text.size() || csv_fini(&parser, on_cell, on_row, &rows) != 0)
    throw fail(Code::bad_file, "not CSV after row {}: {}", rows.all.size(), csv_strerror(csv_error(&parser)));
  return rows.all;
}

}  // namespace

std::vector<Record> csv_records(const std::string& text) {
  constexpr std::string_view kMark = "\xef\xbb\xbf";  // what spreadsheets put before UTF-8
  const std::vector<Row> rows = parse(text.starts_with(kMark) ? text.substr(kMark.size()) : text);
  if (rows.empty()) return {};
  const Row& names = rows.front();
  if (std::find(names.begin(), names.end(), "prompt") == names.end())
    throw fail(Code::bad_file, "its first row must name the columns, one of them \"prompt\"");
  std::vector<Record> records;
  for (size_t r = 1; r < rows.size(); r++) {
    Record record{.where = "row " + std::to_string(r + 1)};
    if (rows[r].size() > names.size())
      record.error =
          fmt::format("{} cells where the header names {}; a text with commas needs double quotes", rows[r].size(), names.size());
    for (size_t c = 0; c < std::min(names.size(), rows[r].size()); c++)
      if (!rows[r][c].empty()) record.fields.push_back({canonical_field(names[c]), {rows[r][c]}});
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace cudream
