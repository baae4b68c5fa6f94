#include "sampling/constraint/schema_index.h"

namespace ink::constraint {

// https://json-schema.org/draft/2020-12/schema and its vocabularies, published under the BSD
// licence (https://github.com/json-schema-org/json-schema-spec); whitespace and comments removed.
const std::map<std::string, std::string>& MetaSchemas() {
  static const std::map<std::string, std::string> documents = {
      {"https://json-schema.org/draft/2020-12/schema",
       R"~({"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://json-schema)~"
       R"~(.org/draft/2020-12/schema","$vocabulary":{"https://json-schema.org/draft/2020-12/voc)~"
       R"~(ab/core":true,"https://json-schema.org/draft/2020-12/vocab/applicator":true,"https:/)~"
       R"~(/json-schema.org/draft/2020-12/vocab/unevaluated":true,"https://json-schema.org/draf)~"
       R"~(t/2020-12/vocab/validation":true,"https://json-schema.org/draft/2020-12/vocab/meta-d)~"
       R"~(ata":true,"https://json-schema.org/draft/2020-12/vocab/format-annotation":true,"http)~"
       R"~(s://json-schema.org/draft/2020-12/vocab/content":true},"$dynamicAnchor":"meta","titl)~"
       R"~(e":"Core and Validation specifications meta-schema","allOf":[{"$ref":"meta/core"},{")~"
       R"~($ref":"meta/applicator"},{"$ref":"meta/unevaluated"},{"$ref":"meta/validation"},{"$r)~"
       R"~(ef":"meta/meta-data"},{"$ref":"meta/format-annotation"},{"$ref":"meta/content"}],"ty)~"
       R"~(pe":["object","boolean"],"properties":{"definitions":{"type":"object","additionalPro)~"
       R"~(perties":{"$dynamicRef":"#meta"},"deprecated":true,"default":{}},"dependencies":{"ty)~"
       R"~(pe":"object","additionalProperties":{"anyOf":[{"$dynamicRef":"#meta"},{"$ref":"meta/)~"
       R"~(validation#/$defs/stringArray"}]},"deprecated":true,"default":{}},"$recursiveAnchor")~"
       R"~(:{"$ref":"meta/core#/$defs/anchorString","deprecated":true},"$recursiveRef":{"$ref":)~"
       R"~("meta/core#/$defs/uriReferenceString","deprecated":true}}})~"},
      {"https://json-schema.org/draft/2020-12/meta/applicator",
       R"~({"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://json-schema)~"
       R"~(.org/draft/2020-12/meta/applicator","$vocabulary":{"https://json-schema.org/draft/20)~"
       R"~(20-12/vocab/applicator":true},"$dynamicAnchor":"meta","title":"Applicator vocabulary)~"
       R"~( meta-schema","type":["object","boolean"],"properties":{"prefixItems":{"$ref":"#/$de)~"
       R"~(fs/schemaArray"},"items":{"$dynamicRef":"#meta"},"contains":{"$dynamicRef":"#meta"},)~"
       R"~("additionalProperties":{"$dynamicRef":"#meta"},"properties":{"type":"object","additi)~"
       R"~(onalProperties":{"$dynamicRef":"#meta"},"default":{}},"patternProperties":{"type":"o)~"
       R"~(bject","additionalProperties":{"$dynamicRef":"#meta"},"propertyNames":{"format":"reg)~"
       R"~(ex"},"default":{}},"dependentSchemas":{"type":"object","additionalProperties":{"$dyn)~"
       R"~(amicRef":"#meta"},"default":{}},"propertyNames":{"$dynamicRef":"#meta"},"if":{"$dyna)~"
       R"~(micRef":"#meta"},"then":{"$dynamicRef":"#meta"},"else":{"$dynamicRef":"#meta"},"allO)~"
       R"~(f":{"$ref":"#/$defs/schemaArray"},"anyOf":{"$ref":"#/$defs/schemaArray"},"oneOf":{"$)~"
       R"~(ref":"#/$defs/schemaArray"},"not":{"$dynamicRef":"#meta"}},"$defs":{"schemaArray":{")~"
       R"~(type":"array","minItems":1,"items":{"$dynamicRef":"#meta"}}}})~"},
      {"https://json-schema.org/draft/2020-12/meta/content",
       R"~({"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://json-schema)~"
       R"~(.org/draft/2020-12/meta/content","$vocabulary":{"https://json-schema.org/draft/2020-)~"
       R"~(12/vocab/content":true},"$dynamicAnchor":"meta","title":"Content vocabulary meta-sch)~"
       R"~(ema","type":["object","boolean"],"properties":{"contentEncoding":{"type":"string"},")~"
       R"~(contentMediaType":{"type":"string"},"contentSchema":{"$dynamicRef":"#meta"}}})~"},
      {"https://json-schema.org/draft/2020-12/meta/core",
       R"~({"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://json-schema)~"
       R"~(.org/draft/2020-12/meta/core","$vocabulary":{"https://json-schema.org/draft/2020-12/)~"
       R"~(vocab/core":true},"$dynamicAnchor":"meta","title":"Core vocabulary meta-schema","typ)~"
       R"~(e":["object","boolean"],"properties":{"$id":{"$ref":"#/$defs/uriReferenceString","pa)~"
       R"~(ttern":"^[^#]*#?$"},"$schema":{"$ref":"#/$defs/uriString"},"$ref":{"$ref":"#/$defs/u)~"
       R"~(riReferenceString"},"$anchor":{"$ref":"#/$defs/anchorString"},"$dynamicRef":{"$ref":)~"
       R"~("#/$defs/uriReferenceString"},"$dynamicAnchor":{"$ref":"#/$defs/anchorString"},"$voc)~"
       R"~(abulary":{"type":"object","propertyNames":{"$ref":"#/$defs/uriString"},"additionalPr)~"
       R"~(operties":{"type":"boolean"}},"$defs":{"type":"object","additionalProperties":{"$dyn)~"
       R"~(amicRef":"#meta"}}},"$defs":{"anchorString":{"type":"string","pattern":"^[A-Za-z_][-)~"
       R"~(A-Za-z0-9._]*$"},"uriString":{"type":"string","format":"uri"},"uriReferenceString":{)~"
       R"~("type":"string","format":"uri-reference"}}})~"},
      {"https://json-schema.org/draft/2020-12/meta/format-annotation",
       R"~({"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://json-schema)~"
       R"~(.org/draft/2020-12/meta/format-annotation","$vocabulary":{"https://json-schema.org/d)~"
       R"~(raft/2020-12/vocab/format-annotation":true},"$dynamicAnchor":"meta","title":"Format )~"
       R"~(vocabulary meta-schema for annotation results","type":["object","boolean"],"properti)~"
       R"~(es":{"format":{"type":"string"}}})~"},
      {"https://json-schema.org/draft/2020-12/meta/format-assertion",
       R"~({"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://json-schema)~"
       R"~(.org/draft/2020-12/meta/format-assertion","$vocabulary":{"https://json-schema.org/dr)~"
       R"~(aft/2020-12/vocab/format-assertion":true},"$dynamicAnchor":"meta","title":"Format vo)~"
       R"~(cabulary meta-schema for assertion results","type":["object","boolean"],"properties")~"
       R"~(:{"format":{"type":"string"}}})~"},
      {"https://json-schema.org/draft/2020-12/meta/meta-data",
       R"~({"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://json-schema)~"
       R"~(.org/draft/2020-12/meta/meta-data","$vocabulary":{"https://json-schema.org/draft/202)~"
       R"~(0-12/vocab/meta-data":true},"$dynamicAnchor":"meta","title":"Meta-data vocabulary me)~"
       R"~(ta-schema","type":["object","boolean"],"properties":{"title":{"type":"string"},"desc)~"
       R"~(ription":{"type":"string"},"default":true,"deprecated":{"type":"boolean","default":f)~"
       R"~(alse},"readOnly":{"type":"boolean","default":false},"writeOnly":{"type":"boolean","d)~"
       R"~(efault":false},"examples":{"type":"array","items":true}}})~"},
      {"https://json-schema.org/draft/2020-12/meta/unevaluated",
       R"~({"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://json-schema)~"
       R"~(.org/draft/2020-12/meta/unevaluated","$vocabulary":{"https://json-schema.org/draft/2)~"
       R"~(020-12/vocab/unevaluated":true},"$dynamicAnchor":"meta","title":"Unevaluated applica)~"
       R"~(tor vocabulary meta-schema","type":["object","boolean"],"properties":{"unevaluatedIt)~"
       R"~(ems":{"$dynamicRef":"#meta"},"unevaluatedProperties":{"$dynamicRef":"#meta"}}})~"},
      {"https://json-schema.org/draft/2020-12/meta/validation",
       R"~({"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://json-schema)~"
       R"~(.org/draft/2020-12/meta/validation","$vocabulary":{"https://json-schema.org/draft/20)~"
       R"~(20-12/vocab/validation":true},"$dynamicAnchor":"meta","title":"Validation vocabulary)~"
       R"~( meta-schema","type":["object","boolean"],"properties":{"type":{"anyOf":[{"$ref":"#/)~"
       R"~($defs/simpleTypes"},{"type":"array","items":{"$ref":"#/$defs/simpleTypes"},"minItems)~"
       R"~(":1,"uniqueItems":true}]},"const":true,"enum":{"type":"array","items":true},"multipl)~"
       R"~(eOf":{"type":"number","exclusiveMinimum":0},"maximum":{"type":"number"},"exclusiveMa)~"
       R"~(ximum":{"type":"number"},"minimum":{"type":"number"},"exclusiveMinimum":{"type":"num)~"
       R"~(ber"},"maxLength":{"$ref":"#/$defs/nonNegativeInteger"},"minLength":{"$ref":"#/$defs)~"
       R"~(/nonNegativeIntegerDefault0"},"pattern":{"type":"string","format":"regex"},"maxItems)~"
       R"~(":{"$ref":"#/$defs/nonNegativeInteger"},"minItems":{"$ref":"#/$defs/nonNegativeInteg)~"
       R"~(erDefault0"},"uniqueItems":{"type":"boolean","default":false},"maxContains":{"$ref":)~"
       R"~("#/$defs/nonNegativeInteger"},"minContains":{"$ref":"#/$defs/nonNegativeInteger","de)~"
       R"~(fault":1},"maxProperties":{"$ref":"#/$defs/nonNegativeInteger"},"minProperties":{"$r)~"
       R"~(ef":"#/$defs/nonNegativeIntegerDefault0"},"required":{"$ref":"#/$defs/stringArray"},)~"
       R"~("dependentRequired":{"type":"object","additionalProperties":{"$ref":"#/$defs/stringA)~"
       R"~(rray"}}},"$defs":{"nonNegativeInteger":{"type":"integer","minimum":0},"nonNegativeIn)~"
       R"~(tegerDefault0":{"$ref":"#/$defs/nonNegativeInteger","default":0},"simpleTypes":{"enu)~"
       R"~(m":["array","boolean","integer","null","number","object","string"]},"stringArray":{")~"
       R"~(type":"array","items":{"type":"string"},"uniqueItems":true,"default":[]}}})~"},
  };
  return documents;
}

}  // namespace ink::constraint
