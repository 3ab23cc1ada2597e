// One rdf:Description with attributes. Read back by looking for them, not as XML: a packet of another program holds neither.
#include "runtime/picture/xmp.h"

#include <algorithm>
#include <array>
#include <utility>

namespace cudream {
namespace {

constexpr std::string_view kSourceType = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";
constexpr std::string_view kJob = " cudream:job=\"";
// "Extensible Markup Language", section 2.4; line ends and tabs of attributes would become blanks (3.3.3).
constexpr std::array<std::pair<char, std::string_view>, 7> kEscapes = {
    {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\n', "&#10;"}, {'\r', "&#13;"}, {'\t', "&#9;"}}};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto* rule = std::ranges::find(kEscapes, c, &std::pair<char, std::string_view>::first);
    if (rule == kEscapes.end())
      out += c;
    else
      out += rule->second;
  }
  return out;
}

std::string unescaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto* rule = std::ranges::find_if(kEscapes, [&](const auto& r) { return text.starts_with(r.second); });
    out += rule == kEscapes.end() ? text.front() : rule->first;
    text.remove_prefix(rule == kEscapes.end() ? 1 : rule->second.size());
  }
  return out;
}

}  // namespace

std::string write_xmp(bool generated, std::string_view job) {
  std::string packet =
      "<?xpacket begin=\"\xEF\xBB\xBF\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n"
      "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">"
      "<rdf:Description rdf:about=\"\"";
  if (generated) {
    packet += " xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\" Iptc4xmpExt:DigitalSourceType=\"";
    packet.append(kSourceType) += '"';
  }
  if (!job.empty()) packet.append(" xmlns:cudream=\"urn:cudream:job\"").append(kJob).append(escaped(job)) += '"';
  return packet + "/></rdf:RDF></x:xmpmeta>\n<?xpacket end=\"r\"?>";
}

std::string xmp_job(std::string_view packet) {
  const size_t at = packet.find(kJob);
  if (at == std::string_view::npos) return {};
  const std::string_view value = packet.substr(at + kJob.size());
  return unescaped(value.substr(0, value.find('"')));
}

bool xmp_generated(std::string_view packet) {
  return packet.find(kSourceType) != std::string_view::npos;
}

}  // namespace cudream
