#include "sampling/constraint/formats.h"

namespace ink::constraint {
namespace {

// RFC 3339, with the days of each month and leap years.
#define INK_DATE                                                                       \
  "(?:\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|"  \
  "[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))|(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|" \
  "(?:[02468][048]|[13579][26])00)-02-29)"
#define INK_TIME                                                 \
  "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:[Zz]|" \
  "[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
// RFC 1123.
#define INK_LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define INK_HOST INK_LABEL "(?:\\." INK_LABEL ")*"
#define INK_ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#define INK_BYTE "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define INK_IPV4 INK_BYTE "(?:\\." INK_BYTE "){3}"
#define INK_HEX "[0-9A-Fa-f]{1,4}"
// RFC 4291, section 2.2.
#define INK_LAST32 "(?:" INK_HEX ":" INK_HEX "|" INK_IPV4 ")"
#define INK_IPV6                                                                              \
  "(?:(?:" INK_HEX ":){6}" INK_LAST32 "|::(?:" INK_HEX ":){5}" INK_LAST32 "|(?:" INK_HEX      \
  ")?::(?:" INK_HEX ":){4}" INK_LAST32 "|(?:(?:" INK_HEX ":){0,1}" INK_HEX ")?::(?:" INK_HEX  \
  ":){3}" INK_LAST32 "|(?:(?:" INK_HEX ":){0,2}" INK_HEX ")?::(?:" INK_HEX ":){2}" INK_LAST32 \
  "|(?:(?:" INK_HEX ":){0,3}" INK_HEX ")?::" INK_HEX ":" INK_LAST32 "|(?:(?:" INK_HEX         \
  ":){0,4}" INK_HEX ")?::" INK_LAST32 "|(?:(?:" INK_HEX ":){0,5}" INK_HEX ")?::" INK_HEX      \
  "|(?:(?:" INK_HEX ":){0,6}" INK_HEX ")?::)"
// RFC 3986, appendix A.
#define INK_PCHAR "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
#define INK_AUTHORITY                                                     \
  "(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?(?:\\[" INK_IPV6 \
  "\\]|"                                                                  \
  "(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::\\d*)?"
#define INK_QUERY "(?:\\?(?:" INK_PCHAR "|[/?])*)?(?:#(?:" INK_PCHAR "|[/?])*)?"
#define INK_ABSOLUTE_PATH "/(?:" INK_PCHAR "+(?:/" INK_PCHAR "*)*)?"
#define INK_ABEMPTY "(?:/" INK_PCHAR "*)*"
#define INK_ROOTLESS INK_PCHAR "+" INK_ABEMPTY
#define INK_NO_SCHEME "(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})+" INK_ABEMPTY
#define INK_URI                                                                                    \
  "[A-Za-z][A-Za-z0-9+.-]*:(?://" INK_AUTHORITY INK_ABEMPTY "|" INK_ABSOLUTE_PATH "|" INK_ROOTLESS \
  "|)" INK_QUERY
#define INK_POINTER "(?:/(?:[^~/]|~[01])*)*"

constexpr Format kFormats[] = {
    {"date", INK_DATE, 0},
    {"time", INK_TIME, 0},
    {"date-time", INK_DATE "[Tt]" INK_TIME, 0},
    // RFC 3339, appendix A.
    {"duration",
     "P(?:\\d+W|(?:\\d+Y(?:\\d+M(?:\\d+D)?)?|\\d+M(?:\\d+D)?|\\d+D)(?:T(?:\\d+H(?:\\d+M(?:\\d+S)?)?"
     "|"
     "\\d+M(?:\\d+S)?|\\d+S))?|T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S))",
     0},
    {"email", INK_ATOM "(?:\\." INK_ATOM ")*@" INK_HOST, 254},
    {"hostname", INK_HOST, 253},
    {"ipv4", INK_IPV4, 0},
    {"ipv6", INK_IPV6, 0},
    {"uuid", "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}", 0},
    {"uri", INK_URI, 0},
    {"uri-reference",
     "(?:" INK_URI "|(?://" INK_AUTHORITY INK_ABEMPTY "|" INK_ABSOLUTE_PATH "|" INK_NO_SCHEME
     "|)" INK_QUERY ")",
     0},
    {"json-pointer", INK_POINTER, 0},
    {"relative-json-pointer", "(?:0|[1-9]\\d*)(?:#|" INK_POINTER ")", 0},
    {"idn-email", nullptr, 0},
    {"idn-hostname", nullptr, 0},
    {"iri", nullptr, 0},
    {"iri-reference", nullptr, 0},
    {"uri-template", nullptr, 0},
    {"regex", nullptr, 0},
};

}  // namespace

const Format* FindFormat(std::string_view name) {
  for (const Format& f : kFormats) {
    if (name == f.name) return &f;
  }
  return nullptr;
}

}  // namespace ink::constraint
