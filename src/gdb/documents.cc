#include "gdb/documents.h"

#include "base/check.h"
#include "base/printable.h"

namespace deja {
namespace {

// Text within XML. The guest may have chosen it, and may not have meant it as text.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c >= ' ' && c <= '~' ? c : '?';
  }
  return out;
}

}  // namespace

std::string threads_document(DebugTarget& target, unsigned count) {
  std::string xml = "<?xml version=\"1.0\"?>\n<threads>\n";
  for (unsigned i = 0; i < count; ++i)
    xml += show("<thread id=\"{:x}\" core=\"{}\" name=\"vCPU {}\">{}</thread>\n", i + 1, i, i,
                target.describe_vcpu(i));
  return xml + "</threads>\n";
}

std::string os_document(std::string_view kind, const GdbOsTable& table) {
  std::string xml = "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"osdata.dtd\">\n<osdata type=\"" +
                    escaped(kind.empty() ? "types" : kind) + "\">\n";
  for (const std::vector<std::string>& row : table.rows) {
    DEJA_CHECK(row.size() == table.columns.size(), "{}: {} fields in {} columns", kind, row.size(),
               table.columns.size());
    xml += "<item>";
    for (std::size_t i = 0; i < row.size(); ++i)
      xml += "<column name=\"" + table.columns[i] + "\">" + escaped(printable(row[i])) + "</column>";
    xml += "</item>\n";
  }
  return xml + "</osdata>\n";
}

GdbOsTable os_kinds() {
  return {{"Type", "Description", "Title"},
          {{"processes", "Listing of all processes", "Processes"},
           {"threads", "Listing of all threads", "Threads"},
           {"modules", "Listing of all loaded kernel modules", "Kernel modules"}}};
}

std::string_view memory_map_document() {
  // Linear addresses: anything may be mapped. To gdb all of it is memory that keeps breakpoints.
  return "<?xml version=\"1.0\"?>\n<!DOCTYPE memory-map PUBLIC \"+//IDN gnu.org//DTD GDB Memory Map "
         "V1.0//EN\" "
         "\"http://sourceware.org/gdb/gdb-memory-map.dtd\">\n<memory-map>\n"
         "<memory type=\"ram\" start=\"0x0\" length=\"0x8000000000000000\"/>\n"
         "<memory type=\"ram\" start=\"0x8000000000000000\" length=\"0x8000000000000000\"/>\n</memory-map>\n";
}

}  // namespace deja
