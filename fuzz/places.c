// Loaded into a fuzzer, lets libFuzzer print which edges it reached: it asks a sanitizer's runtime for the names of
// places, and there is none. Places are printed as offsets in the program.

#define _GNU_SOURCE
#include <link.h>
#include <stdint.h>
#include <stdio.h>

static int first_object(struct dl_phdr_info *info, size_t size, void *base) {
    (void)size;
    *(uintptr_t *)base = info->dlpi_addr;
    return 1;
}

static uintptr_t offset_of(void *place) {
    uintptr_t base = 0;
    dl_iterate_phdr(first_object, &base);
    return (uintptr_t)place - base;
}

void __sanitizer_symbolize_pc(void *place, const char *format, char *out, size_t size) {
    (void)format;
    snprintf(out, size, " 0x%zx", (size_t)offset_of(place));
}

int __sanitizer_get_module_and_offset_for_pc(void *place, char *module, size_t size, void **offset) {
    snprintf(module, size, "program");
    *offset = (void *)offset_of(place);
    return 1;
}
