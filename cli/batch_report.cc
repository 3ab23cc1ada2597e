// The page, its escapes, its style.
#include "cli/batch_report.h"

#include "core/file.h"

namespace cudream {
namespace {

using State = BatchResult::State;

constexpr std::string_view kHead = R"(<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'">
<title>cudream batch</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1rem; color-scheme: light dark }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem }
figure { margin: 0 } img { width: 100%; height: auto }
summary { cursor: pointer } td { vertical-align: top; padding-right: .6rem; overflow-wrap: anywhere }
.failed { color: #b00 }
</style>
)";

// For text and for values of attributes in double quotes (HTML Living Standard, 13.3).
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  return out;
}

// A relative URL of a file in the same folder (RFC 3986: everything but unreserved characters as %XX).
std::string link(const std::filesystem::path& file) {
  std::string out;
  for (const unsigned char c : file.filename().string())
    out += std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_' || c == '~' ? std::string(1, static_cast<char>(c))
                                                                                : fmt::format("%{:02X}", c);
  return out;
}

std::string settings(const BatchItem& item, const BatchResult& result) {
  std::string rows;
  const auto row = [&](const std::string& name, const std::string& value) {
    rows += fmt::format("<tr><td>{}<td>{}", escaped(name), escaped(value));
  };
  for (const auto& [name, value] : item.fields)
    if (name != "prompt" && name != "seed" && name != "count") row(name, value);
  row("seed", std::to_string(result.seed));
  row("time", fmt::format("{:.2f} s", result.seconds));
  row("from", item.where);
  return "<table>" + rows + "</table>";
}

std::string prompt_of(const BatchItem& item) {
  for (const auto& [name, value] : item.fields)
    if (name == "prompt") return value;
  return item.where;
}

}  // namespace

void write_report(const std::filesystem::path& file, const std::vector<BatchItem>& items,
                  const std::vector<BatchResult>& results) {
  std::string pictures, failures;
  size_t done = 0, failed = 0;
  for (size_t i = 0; i < items.size(); i++) {
    if (results[i].state == State::done) {
      done++;
      const std::string url = link(results[i].file), prompt = escaped(prompt_of(items[i]));
      pictures += fmt::format(
          "<figure><a href=\"{0}\"><img src=\"{0}\" alt=\"{1}\" loading=\"lazy\"></a>"
          "<figcaption><details><summary>{1}</summary>{2}</details></figcaption></figure>\n",
          url, prompt, settings(items[i], results[i]));
    } else if (results[i].state == State::failed) {
      failed++;
      failures += fmt::format("<li>{}: {}\n", escaped(items[i].where), escaped(results[i].reason));
    }
  }
  std::string page(kHead);
  page += fmt::format("<h1>{} of {} pictures</h1>\n", done, items.size());
  if (failed > 0) page += fmt::format("<h2 class=\"failed\">{} failed</h2>\n<ul>\n{}</ul>\n", failed, failures);
  page += "<main>\n" + pictures + "</main>\n</html>\n";
  AtomicFile out(file, Exists::replace);
  out.write(page);
  out.commit();
}

}  // namespace cudream
