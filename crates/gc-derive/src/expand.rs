//! The expansion: constants and the visit of every field.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Data, DeriveInput, Error, Fields, GenericParam, Generics, Lifetime, LifetimeParam, Type,
    parse_quote,
};

/// The implementation of `Trace` for `input`.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream, Error> {
    let name = &input.ident;
    let generics = branded(&input.generics)?;
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, type_generics, _) = input.generics.split_for_impl();
    let (types, body) = match &input.data {
        Data::Struct(data) => {
            let (types, pattern, visits) = fields(&data.fields);
            (types, quote! { let Self #pattern = self; #visits })
        }
        Data::Enum(data) => {
            let mut types = Vec::new();
            let mut arms = TokenStream::new();
            for variant in &data.variants {
                let (fields, pattern, visits) = fields(&variant.fields);
                let variant = &variant.ident;
                types.extend(fields);
                arms.extend(quote! { Self::#variant #pattern => { #visits } });
            }
            // A match on a place without variants needs the place by value.
            let on = if data.variants.is_empty() { quote!(*self) } else { quote!(self) };
            (types, quote! { match #on { #arms } })
        }
        Data::Union(data) => {
            return Err(Error::new(data.union_token.span, "a union's live field is not known"));
        }
    };
    let (drop_generics, _, drop_where) = generics.split_for_impl();
    Ok(quote! {
        const _: () = {
            // Whoever implements `Drop` implements this twice, which does not compile.
            trait TracedTypesHaveNoDrop {}
            #[allow(drop_bounds)]
            impl<T: ::core::ops::Drop> TracedTypesHaveNoDrop for T {}
            #[automatically_derived]
            impl #drop_generics TracedTypesHaveNoDrop for #name #type_generics #drop_where {}

            // SAFETY: the body visits every field of the value once, the constants are the
            // disjunction of the fields', and the type has no `Drop` (above).
            #[automatically_derived]
            unsafe impl #impl_generics ::heapwright_gc::Trace<'gc> for #name #type_generics
                #where_clause
            {
                const NEEDS_TRACE: bool =
                    false #(|| <#types as ::heapwright_gc::Trace<'gc>>::NEEDS_TRACE)*;
                const HAS_CELLS: bool =
                    false #(|| <#types as ::heapwright_gc::Trace<'gc>>::HAS_CELLS)*;
                #[inline]
                #[allow(unused_variables)]
                fn trace<V: ::heapwright_gc::Visitor>(&mut self, visitor: &mut V) {
                    #body
                }
            }
        };
    })
}

/// The generics of the implementation: `'gc` is there, and each type is traced.
fn branded(generics: &Generics) -> Result<Generics, Error> {
    let mut generics = generics.clone();
    let mut has_brand = false;
    for parameter in &mut generics.params {
        match parameter {
            GenericParam::Lifetime(lifetime) if lifetime.lifetime.ident == "gc" => has_brand = true,
            GenericParam::Lifetime(lifetime) => {
                return Err(Error::new_spanned(
                    lifetime,
                    "the one lifetime of a traced type is `'gc`, the brand of its heap",
                ));
            }
            GenericParam::Type(parameter) => {
                parameter.bounds.push(parse_quote!(::heapwright_gc::Trace<'gc>));
                parameter.default = None;
            }
            GenericParam::Const(parameter) => parameter.default = None,
        }
    }
    if !has_brand {
        let brand = LifetimeParam::new(Lifetime::new("'gc", Span::call_site()));
        generics.params.insert(0, GenericParam::Lifetime(brand));
    }
    Ok(generics)
}

/// The types of the fields, a pattern that binds them, and their visits.
fn fields(fields: &Fields) -> (Vec<Type>, TokenStream, TokenStream) {
    let types: Vec<Type> = fields.iter().map(|field| field.ty.clone()).collect();
    let bound: Vec<_> = (0..types.len()).map(|index| format_ident!("field_{index}")).collect();
    let pattern = match fields {
        Fields::Named(named) => {
            let names = named.named.iter().map(|field| &field.ident);
            quote! { { #(#names: #bound),* } }
        }
        Fields::Unnamed(_) => quote! { ( #(#bound),* ) },
        Fields::Unit => quote!(),
    };
    let visits = quote! {
        #( <#types as ::heapwright_gc::Trace<'gc>>::trace(#bound, visitor); )*
    };
    (types, pattern, visits)
}
