/* SPDX-License-Identifier: MIT */
/* Builds the vmdescription with json-glib; see the header for the grammar. */
#include "migration/vmdesc-json.h"

#include <assert.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

enum { VMDESC_MAX_DEPTH = 64 };

struct VmDesc {
    JsonBuilder *builder;
    bool in_devices;
    unsigned depth;                           /* open vmsds */
    bool has_subsections[VMDESC_MAX_DEPTH];   /* their list is open */
};

static void vmdesc_string(VmDesc *d, const char *key, const char *value)
{
    json_builder_set_member_name(d->builder, key);
    json_builder_add_string_value(d->builder, value);
}

static void vmdesc_int(VmDesc *d, const char *key, int64_t value)
{
    json_builder_set_member_name(d->builder, key);
    json_builder_add_int_value(d->builder, value);
}

VmDesc *vmdesc_new(unsigned page_size)
{
    VmDesc *d = g_new0(VmDesc, 1);

    d->builder = json_builder_new();
    json_builder_begin_object(d->builder);
    vmdesc_int(d, "page_size", page_size);
    return d;
}

void vmdesc_free(VmDesc *d)
{
    if (d) {
        g_object_unref(d->builder);
        g_free(d);
    }
}

void vmdesc_begin_configuration(VmDesc *d)
{
    if (d) {
        json_builder_set_member_name(d->builder, "configuration");
        json_builder_begin_object(d->builder);
    }
}

void vmdesc_end_configuration(VmDesc *d)
{
    if (d) {
        json_builder_end_object(d->builder);
    }
}

static void vmdesc_open_devices(VmDesc *d)
{
    if (!d->in_devices) {
        d->in_devices = true;
        json_builder_set_member_name(d->builder, "devices");
        json_builder_begin_array(d->builder);
    }
}

void vmdesc_begin_device(VmDesc *d, const char *name, uint32_t instance_id)
{
    if (d) {
        vmdesc_open_devices(d);
        json_builder_begin_object(d->builder);
        vmdesc_string(d, "name", name);
        vmdesc_int(d, "instance_id", instance_id);
    }
}

void vmdesc_end_device(VmDesc *d)
{
    if (d) {
        json_builder_end_object(d->builder);
    }
}

void vmdesc_begin_vmsd(VmDesc *d, const char *vmsd_name, int version)
{
    if (d) {
        assert(d->depth < VMDESC_MAX_DEPTH);
        d->has_subsections[d->depth++] = false;
        vmdesc_string(d, "vmsd_name", vmsd_name);
        vmdesc_int(d, "version", version);
        json_builder_set_member_name(d->builder, "fields");
        json_builder_begin_array(d->builder);
    }
}

void vmdesc_end_fields(VmDesc *d)
{
    if (d) {
        json_builder_end_array(d->builder);
    }
}

void vmdesc_begin_subsection(VmDesc *d)
{
    if (d) {
        if (!d->has_subsections[d->depth - 1]) {
            d->has_subsections[d->depth - 1] = true;
            json_builder_set_member_name(d->builder, "subsections");
            json_builder_begin_array(d->builder);
        }
        json_builder_begin_object(d->builder);
    }
}

void vmdesc_end_subsection(VmDesc *d)
{
    if (d) {
        json_builder_end_object(d->builder);
    }
}

void vmdesc_end_vmsd(VmDesc *d)
{
    if (d && d->has_subsections[--d->depth]) {
        json_builder_end_array(d->builder);
    }
}

void vmdesc_begin_field(VmDesc *d, const char *name, const char *type,
                        uint32_t array_len, int64_t index)
{
    if (!d) {
        return;
    }
    json_builder_begin_object(d->builder);
    vmdesc_string(d, "name", name);
    if (array_len > 1) {
        vmdesc_int(d, "array_len", array_len);
    } else if (index >= 0) {
        vmdesc_int(d, "index", index);
    }
    vmdesc_string(d, "type", type);
    if (g_str_equal(type, "struct")) {
        json_builder_set_member_name(d->builder, "struct");
        json_builder_begin_object(d->builder);
    }
}

void vmdesc_end_field(VmDesc *d, const char *type, uint64_t size)
{
    if (!d) {
        return;
    }
    if (g_str_equal(type, "struct")) {
        json_builder_end_object(d->builder);
    }
    vmdesc_int(d, "size", (int64_t)size);
    json_builder_end_object(d->builder);
}

char *vmdesc_to_text(VmDesc *d, size_t *ret_len)
{
    JsonGenerator *generator = json_generator_new();
    JsonNode *root;
    char *text;

    vmdesc_open_devices(d);
    json_builder_end_array(d->builder);
    json_builder_end_object(d->builder);
    root = json_builder_get_root(d->builder);
    json_generator_set_root(generator, root);
    text = json_generator_to_data(generator, ret_len);
    json_node_unref(root);
    g_object_unref(generator);
    return text;
}
