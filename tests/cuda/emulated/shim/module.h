// The end of every kernel's text: from an array of addresses, as CUDA launches take it, to a call.
//
// NNM_KERNEL(name, function) exports nnm_launch_<name>, which runs the grid, and nnm_kinds_<name>,
// which says what the parameters are: "P8,f4,i8," for (T *, float, long long).
#pragma once

extern "C" {      // the ends of the section of shared arrays; null in a module without any
extern char __start_nnm_shared_memory[] __attribute__((weak, visibility("hidden")));
extern char __stop_nnm_shared_memory[] __attribute__((weak, visibility("hidden")));
}

namespace nnm {

// Whether an argument can be passed: a pointer must be one of the device. CuPy's array descriptors
// begin with a pointer; asking for it opens the array before the kernel is refused it.
template <class T> bool readable(void *address)
{
    const void *p = nullptr;
    if constexpr (std::is_pointer_v<T> || (std::is_class_v<T> && sizeof(T) > sizeof p)) memcpy(&p, address, sizeof p);
    return !p || !nnm_may_read || nnm_may_read(p) || !std::is_pointer_v<T>;
}

template <class... A> struct Call {
    void (*kernel)(A...);
    void **addresses;
    template <size_t... I> void with(std::index_sequence<I...>)
    {
        kernel(*(std::decay_t<A> *)addresses[I]...);
    }
    static void thread(void *self) { ((Call *)self)->with(std::index_sequence_for<A...>{}); }
};

template <class... A> int launch(void (*kernel)(A...), void **addresses, const nnm_launch *how)
{
    int i = 0;
    bool fine = true;
    ((fine = readable<std::decay_t<A>>(addresses[i++]) && fine), ...);
    if (!fine) return 2;
    Call<A...> call{kernel, addresses};
    return nnm_run(how, &Call<A...>::thread, &call, __start_nnm_shared_memory, __stop_nnm_shared_memory);
}

template <class T> void kind(char *&out)
{
    using D = std::decay_t<T>;
    *out++ = std::is_pointer_v<D> ? 'P' : std::is_same_v<D, bool> ? 'b' : std::is_floating_point_v<D> ? 'f'
           : std::is_integral_v<D> ? (std::is_signed_v<D> ? 'i' : 'u') : 'V';
    out += sprintf(out, "%zu,", sizeof(D));
}

template <class... A> void kinds(void (*)(A...), char *out)
{
    *out = 0;
    (kind<A>(out), ...);
}

}  // namespace nnm

#define NNM_KERNEL(name, ...) \
    extern "C" __attribute__((visibility("default"))) int nnm_launch_##name(void **a, const nnm_launch *how) \
    { return nnm::launch(&__VA_ARGS__, a, how); } \
    extern "C" __attribute__((visibility("default"))) void nnm_kinds_##name(char *out) \
    { nnm::kinds(&__VA_ARGS__, out); }
